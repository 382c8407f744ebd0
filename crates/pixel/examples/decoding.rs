//! What `cargo xtask bench pixels` measures of this crate: the time of decoding, without that of starting a process.
//!
//! `decoding frames FILE REPEATS` prints the median of the milliseconds that one frame takes on one thread.
//! `decoding bytes FILE` prints how many bytes a decoded frame has.
//! `decoding tensors THREADS FILE…` prints the seconds from files on disk to what a model is given of them.

use std::{
    fs, hint,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use dataset::Instance;
use pixel::{Limits, RenderOptions, Window, decode, render};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let figure = match words.as_slice() {
        ["frames", file, repeats] => {
            repeats.parse().map_err(|_| "no number".to_owned()).and_then(|it| frames(file, it))
        }
        ["bytes", file] => bytes(file),
        ["tensors", threads, files @ ..] => {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            threads.parse().map_err(|_| "no number".to_owned()).and_then(|it| tensors(it, &files))
        }
        _ => {
            Err("usage: decoding frames FILE REPEATS | decoding bytes FILE | decoding tensors THREADS FILE…".to_owned())
        }
    };
    match figure {
        Ok(figure) => {
            println!("{figure}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("decoding: {error}");
            ExitCode::FAILURE
        }
    }
}

fn frames(file: &str, repeats: usize) -> Result<f64, String> {
    let instance = Instance::open(file.as_ref(), &dataset::Limits::default()).map_err(|error| error.to_string())?;
    let limits = Limits::default();
    let mut times = Vec::new();
    for _ in 0..repeats.max(1) {
        let begin = Instant::now();
        hint::black_box(decode(&instance, 0, &limits).map_err(|error| error.to_string())?);
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn bytes(file: &str) -> Result<f64, String> {
    let instance = Instance::open(file.as_ref(), &dataset::Limits::default()).map_err(|error| error.to_string())?;
    let decoded = decode(&instance, 0, &Limits::default()).map_err(|error| error.to_string())?;
    let values: usize = decoded.samples.shape().iter().product();
    Ok((values * decoded.image.bits_allocated as usize / 8) as f64)
}

fn tensors(threads: usize, files: &[PathBuf]) -> Result<f64, String> {
    let (next, begin) = (AtomicUsize::new(0), Instant::now());
    let work = || -> Result<(), String> {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            hint::black_box(tensor(file)?);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Three channels of floats, as an image processor of mean and standard deviation 0.5 makes them, at the image's own size.
fn tensor(file: &PathBuf) -> Result<Vec<f32>, String> {
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let instance = Instance::from_bytes(&bytes, &dataset::Limits::default()).map_err(|error| error.to_string())?;
    let options = RenderOptions { window: Some(Window::Linear { center: 40.0, width: 400.0 }) };
    let picture = render(&instance, 0, &options, &Limits::default()).map_err(|error| error.to_string())?;
    let normalized: Vec<f32> = (0..=u8::MAX).map(|level| f32::from(level) / 127.5 - 1.0).collect();
    let channel = |channel: usize| {
        let normalized = &normalized;
        picture.rgb.as_chunks::<3>().0.iter().map(move |pixel| normalized[usize::from(pixel[channel])])
    };
    let mut tensor = Vec::with_capacity(picture.rgb.len());
    (0..3).for_each(|index| tensor.extend(channel(index)));
    Ok(tensor)
}
