//! What `cargo xtask bench infer` measures of this crate, in a process of its own.
//!
//! `inference answer FOLDER PRECISION IMAGE NEW_TOKENS THREADS` loads a model, answers twice and prints the times of the
//! second answer (milliseconds) and the most memory in use (bytes) as JSON.
//!
//! `inference preprocess KEYS WIDTH HEIGHT grey|colour REPEATS` prints the median of the milliseconds that an image
//! processor with these keys (JSON) takes for an image of noise.
//!
//! `inference bandwidth THREADS` prints how many gigabytes a second so many threads read from memory.

use std::{
    error::Error,
    fs, hint,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use infer::{Bundle, Cancel, Image, Model, Request, Runtime, SessionOptions, preprocess};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["answer", folder, precision, image, new_tokens, threads] => {
            let threads = threads.parse()?;
            println!("{}", answer(Path::new(folder), precision, Path::new(image), new_tokens.parse()?, threads)?);
        }
        ["preprocess", keys, width, height, colour, repeats] => {
            let keys: Value = serde_json::from_str(keys)?;
            let image = noise(width.parse()?, height.parse()?, colour == "grey")?;
            let mut times = Vec::new();
            for _ in 0..repeats.parse()? {
                let began = Instant::now();
                hint::black_box(preprocess(&keys, std::slice::from_ref(&image))?);
                times.push(milliseconds(began));
            }
            times.sort_by(f64::total_cmp);
            println!("{}", times[times.len() / 2]);
        }
        ["bandwidth", threads] => println!("{}", bandwidth(threads.parse()?)?),
        _ => return Err("usage: inference answer|preprocess|bandwidth …".into()),
    }
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn answer(
    folder: &Path,
    precision: &str,
    image: &Path,
    new_tokens: u32,
    threads: usize,
) -> Result<Value, Box<dyn Error>> {
    let runtime = Runtime::load(&library())?;
    let began = Instant::now();
    let bundle = Bundle::open_precision(folder, Some(if precision == "q8" { "quantized" } else { precision }))?;
    let looked = milliseconds(began);
    let options = SessionOptions { threads, ..SessionOptions::default() };
    let mut model = Model::load(&bundle, &runtime, &options)?;
    let load = milliseconds(began) - looked;
    let mut image = Image::decode(&fs::read(image)?)?;
    let mut ask = |image: &Image, count: u32| {
        let generation = json!({"max_new_tokens": count, "min_new_tokens": count, "do_sample": false, "num_beams": 1,
            "repetition_penalty": 1.0, "eos_token_id": []});
        let prompt = Some("Describe this image.".to_owned());
        let request = Request { images: vec![image.clone()], prompt, generation, ..Request::default() };
        let began = Instant::now();
        model.run(&request, &Cancel::new()).map(|answer| (answer, milliseconds(began)))
    };
    ask(&image, 2)?;
    // Another image, or its features would still be there.
    image.rgb[0] ^= 1;
    let (answer, whole) = ask(&image, new_tokens)?;
    let timings = answer.timings_ms;
    Ok(json!({
        "digest": looked, "load": load, "preprocess": timings.preprocess, "vision": timings.vision,
        "prefill": timings.prefill, "decode": timings.decode, "graphs": timings.graphs, "whole": whole,
        "tokens": answer.input_ids.len(), "new_tokens": answer.tokens.len(), "peak": peak()?,
    }))
}

/// The library that `ORT_DYLIB_PATH` names, else the one that `cargo xtask setup` gets.
fn library() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/onnxruntime/libonnxruntime.so");
    std::env::var_os("ORT_DYLIB_PATH").map_or(checkout, PathBuf::from)
}

/// The most memory in RAM that this process has had, in bytes.
fn peak() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Words that all threads read together: 2 GiB, more than any cache holds.
const WORDS: usize = 1 << 28;

/// The best of five, in gigabytes a second.
fn bandwidth(threads: usize) -> Result<f64, Box<dyn Error>> {
    let words = vec![1u64; WORDS];
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let began = Instant::now();
        thread::scope(|scope| {
            for part in words.chunks(WORDS.div_ceil(threads.max(1))) {
                scope.spawn(|| hint::black_box(part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word))));
            }
        });
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(f64::from(u32::try_from(size_of_val(&words[..]) >> 10)?) * 1024.0 / best / 1e9)
}

/// Noise of a linear congruential generator.
fn noise(width: u32, height: u32, grey: bool) -> Result<Image, infer::Error> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
        state.to_le_bytes()[2]
    };
    let pixel = |_| if grey { [next(); 3] } else { [next(), next(), next()] };
    Image::new(width, height, (0..width as usize * height as usize).flat_map(pixel).collect())
}
