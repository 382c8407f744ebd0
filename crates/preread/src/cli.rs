//! The command line, as typed arguments.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// Reads an imaging study before the radiologist does, and stores a draft report back as DICOM SR.
#[derive(Parser)]
#[command(name = "preread", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a short configuration: asks for what the flags do not say.
    Init(Init),
    /// Run the daemon: receive studies, read them, send the reports.
    Serve(ConfigArgument),
    /// Read files or folders without a network; writes a folder for each study, with report.json, the SR and a heat map.
    Read(Read),
    /// Run a model alone, or look at one.
    #[command(subcommand)]
    Model(Model),
    /// Show what is made of the pixels of a DICOM file, or which images of a folder are read, in which order.
    Pixels(Pixels),
    /// Say for each rule whether it takes a study's images, and why not.
    #[command(subcommand)]
    Route(Route),
    /// See and steer the studies in the spool.
    Queue(Queue),
    /// Check a report.
    #[command(subcommand)]
    Report(Report),
    /// Send DICOM files to a destination (C-STORE).
    Send(Send),
    /// Ask a destination whether it is there (C-ECHO).
    Echo(Echo),
    /// Look at everything the daemon needs, and say what to do about what is wrong.
    Doctor(Doctor),
    /// Check a configuration, or print the example.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Args)]
pub(crate) struct ConfigArgument {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH, global = true)]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct Init {
    /// The PACS that reports go to, and studies come from.
    #[arg(long, value_name = "AE@host:port")]
    pub(crate) pacs: Option<String>,
    /// The model folder; without it the demonstration model, where it is here.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Who may send, besides this machine: an address or a network; without it the PACS's own address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Vec<String>,
    /// Our own AE title.
    #[arg(long, value_name = "AE", default_value = "PREREAD")]
    pub(crate) ae_title: String,
    /// Where we listen.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:11112")]
    pub(crate) listen: std::net::SocketAddr,
    /// The folder of the spool.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/preread")]
    pub(crate) spool: PathBuf,
    /// Read and keep reports, and send nothing.
    #[arg(long)]
    pub(crate) shadow: bool,
    /// The file to write; "-" prints it.
    #[arg(long, value_name = "FILE", default_value = "preread.toml")]
    pub(crate) out: PathBuf,
    /// Write over a file that is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct Read {
    /// DICOM files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// A model folder, instead of the configuration's rules; without either, the demonstration model.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// The configuration whose rules and models to use.
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub(crate) config: Option<PathBuf>,
    /// The prompt, in place of model.toml's; for a zero-shot model, the sentence that labels go into, with {}.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Labels that a zero-shot model scores images against, with commas between them; given several times, each time one
    /// label, which may have commas in it.
    #[arg(long, value_name = "A,B")]
    pub(crate) labels: Vec<String>,
    /// Generation options by their Hugging Face names, such as {"max_new_tokens": 256}.
    #[arg(long = "gen", value_name = "JSON", value_parser = json)]
    pub(crate) generation: Option<serde_json::Value>,
    /// Where to write: a folder for each study, named by its Study Instance UID, with report.json whatever became of the
    /// study. It is refused when it holds anything, unless --resume or --replace says what to do with that.
    #[arg(long, value_name = "DIR", default_value = "preread-out")]
    pub(crate) out: PathBuf,
    /// Go on with what an earlier run of the same version, model and settings left in --out.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Remove what an earlier run wrote into --out, and begin again.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) replace: bool,
    /// Studies that are opened and rendered side by side; a model reads one at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
    /// Write a table too: a row for each finding, and one for a study without.
    #[arg(long, value_name = "F.csv")]
    pub(crate) table: Option<PathBuf>,
    /// Print one JSON document on standard output, at the end.
    #[arg(long, conflicts_with = "jsonl")]
    pub(crate) json: bool,
    /// Print one line of JSON on standard output for each study, as it ends.
    #[arg(long)]
    pub(crate) jsonl: bool,
}

#[derive(Subcommand)]
pub(crate) enum Model {
    /// Run a model on images.
    Run(Box<ModelRun>),
    /// Say what a model folder holds, what it lacks, and whether it runs.
    Check {
        /// The model folder.
        dir: PathBuf,
        /// Graphs of this precision, by the suffix of their files: fp32 (none), fp16, quantized, q4.
        #[arg(long, value_name = "SUFFIX")]
        dtype: Option<String>,
        /// How long loading and running it may take.
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
        deadline: Duration,
        /// Print one JSON document on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Fit what a model's scores mean to labelled sentences, and say how reliable they were before and are after.
    Calibrate(Calibrate),
}

#[derive(Args)]
pub(crate) struct Calibrate {
    /// Sentences, one JSON object a line: {"score": 0.93, "correct": true}.
    #[arg(value_name = "LABELLED.jsonl")]
    pub(crate) labelled: PathBuf,
    /// Where to write the calibration.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) out: PathBuf,
    /// How: one number for all scores, or any rising curve (needs some hundred sentences).
    #[arg(long, value_enum, default_value_t = Method::Temperature)]
    pub(crate) method: Method,
    /// Where to draw the reliability diagram.
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) diagram: Option<PathBuf>,
    /// Print one JSON document on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A way to calibrate.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Method {
    /// The log-odds divided by one number.
    Temperature,
    /// A rising curve.
    Isotonic,
}

#[derive(Args)]
pub(crate) struct ModelRun {
    /// The model folder.
    pub(crate) dir: PathBuf,
    /// An image: PNG, JPEG or DICOM.
    #[arg(long = "image", value_name = "FILE", num_args = 1..)]
    pub(crate) images: Vec<PathBuf>,
    /// The prompt; for an encoder-decoder model, how the decoder's text begins; for a zero-shot model, the sentence that
    /// labels go into, with {}.
    #[arg(long, value_name = "TEXT", conflicts_with = "messages")]
    pub(crate) prompt: Option<String>,
    /// One of the prompts that model.toml has under [prompts], by its name.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["prompt", "messages"])]
    pub(crate) prompt_name: Option<String>,
    /// Messages for the chat template, a JSON list as Transformers takes it.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) messages: Option<PathBuf>,
    /// Labels that a zero-shot model scores images against, with commas between them; given several times, each time one
    /// label, which may have commas in it.
    #[arg(long, value_name = "A,B")]
    pub(crate) labels: Vec<String>,
    /// The text has to be JSON that satisfies this JSON Schema, whatever model.toml asks for.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) json_schema: Option<PathBuf>,
    /// The whole text has to match this regular expression, whatever model.toml asks for.
    #[arg(long, value_name = "EXPR", conflicts_with = "json_schema")]
    pub(crate) regex: Option<String>,
    /// The text may be any, whatever model.toml asks for.
    #[arg(long, conflicts_with_all = ["json_schema", "regex"])]
    pub(crate) free_text: bool,
    /// Generation options by their Hugging Face names, such as {"max_length": 40}.
    #[arg(long = "gen", value_name = "JSON", value_parser = json)]
    pub(crate) generation: Option<serde_json::Value>,
    /// Image processor options by their Hugging Face names.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) processor: Option<serde_json::Value>,
    /// Arguments of the chat template by their Hugging Face names.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) template: Option<serde_json::Value>,
    /// Graphs of this precision, by the suffix of their files: fp32 (none), fp16, quantized, q4.
    #[arg(long, value_name = "SUFFIX")]
    pub(crate) dtype: Option<String>,
    /// Draw so many answers more, and say how many of them repeat each sentence.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) samples: usize,
    /// Say how much likelier each token is with the images than with black ones.
    #[arg(long)]
    pub(crate) image_dependence: bool,
    /// Cover cells of each image, ROWSxCOLUMNS of them, and say what that does to each sentence.
    #[arg(long, value_name = "RxC", value_parser = cells)]
    pub(crate) occlusion: Option<[usize; 2]>,
    /// How long loading and running the model may take.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) deadline: Duration,
    /// Print one JSON document on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Pixels {
    /// A DICOM file; or a folder, whose images are put into stacks.
    #[arg(value_name = "FILE|FOLDER")]
    pub(crate) path: PathBuf,
    /// The frame of a file, counted from 1; 1 when absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) frame: Option<u32>,
    /// Write the frame as it is displayed; of a folder a contact sheet: every image that is read, small, in order, with
    /// series number, stack, and view or place.
    #[arg(long, value_name = "FILE.png")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON document on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Route {
    /// Say for each rule whether it takes an image and its model reads it, and what becomes of the study.
    Explain {
        /// DICOM files, or folders of them.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// The [[peer]] that they came from, which rules see as `source`.
        #[arg(long, value_name = "NAME", default_value = "")]
        source: String,
        #[command(flatten)]
        config: ConfigArgument,
    },
}

#[derive(Args)]
pub(crate) struct Queue {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    #[command(subcommand)]
    pub(crate) command: QueueCommand,
}

#[derive(Subcommand)]
pub(crate) enum QueueCommand {
    /// List the studies, the newest first.
    Ls {
        /// Print one JSON document on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Show a study: its instances, reports and deliveries.
    Show {
        /// Its number, or its Study Instance UID.
        id: String,
        /// Print one JSON document on standard output.
        #[arg(long)]
        json: bool,
    },
    /// List the requests for storage commitment whose results their peers do not have yet.
    Commitments {
        /// Print one JSON document on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Read a held or skipped study again, or send its report again.
    Retry {
        /// Its number, or its Study Instance UID.
        id: String,
    },
    /// Say which images count, where a study is held because they came twice or are of several patients.
    ///
    /// Without an option, what came last counts: the study is read again, and its report replaces the one before. An image
    /// whose UID another study has is read for this one. Where nothing waits for a decision, the last one is taken back:
    /// with --older what counted before it counts again, without it what was left out.
    Accept {
        /// Its number, or its Study Instance UID.
        id: String,
        /// What came first counts, and what came later is left out.
        #[arg(long, conflicts_with = "group")]
        older: bool,
        /// The images of this patient count, by the number that `queue show` gives; those of the others are left out.
        #[arg(long, value_name = "N")]
        group: Option<usize>,
    },
    /// Stop a study until somebody retries it.
    Hold {
        /// Its number, or its Study Instance UID.
        id: String,
    },
    /// Call back the reports of a study that were sent: every destination that has them gets a rejection note (Key Object
    /// Selection, "Rejected for Patient Safety Reasons"), and what is not sent yet is not sent.
    Withdraw {
        /// Its number, or its Study Instance UID.
        id: String,
        /// Why, in words that stand in the note and are read where the report was sent to.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a study without a report; its instances stay, and what comes later is not read either, until somebody retries it.
    Drop {
        /// Its number, or its Study Instance UID.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Read every kept instance again and compare it with what came; takes as long as reading the whole spool.
    #[arg(long)]
    pub(crate) scrub: bool,
    /// Say that it is known which acknowledged instances are gone: they are no problem any more from now on, and what lies
    /// in the spool unclaimed is removed at the next start.
    #[arg(long)]
    pub(crate) confirm_loss: bool,
    /// Load one model and have it read an image, in a process that may end of it.
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) try_model: Option<String>,
    /// Print one JSON document on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Report {
    /// Check SR files as we check our own before they leave.
    Validate {
        /// SR files.
        #[arg(required = true, value_name = "FILE.dcm")]
        files: Vec<PathBuf>,
    },
    /// Turn a free-text report into a structured, coded one, and say what it lacks.
    Structure {
        /// The report, as text in UTF-8.
        #[arg(value_name = "FILE.txt")]
        file: PathBuf,
        /// The template: the id of one of our own, or a file with one (JSON, or MRRT in HTML).
        #[arg(long, value_name = "TEMPLATE")]
        template: String,
        /// The language of the report.
        #[arg(long, value_name = "TAG", default_value = "en")]
        language: String,
        /// Print one JSON document on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Say what speaks against draft reports, before anything is made of them.
    Check {
        /// Drafts, one JSON object a line: {"text": "...", "study": {"modalities": ["CT"], ...}}; or one draft as plain text.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON document on standard output: the objections of each draft.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema that a model's structured output is held to.
    Schema,
}

#[derive(Args)]
pub(crate) struct Send {
    /// DICOM files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The destination: AE@host:port, or the name of one in the configuration.
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Args)]
pub(crate) struct Echo {
    /// The destination: AE@host:port, or the name of one in the configuration.
    #[arg(value_name = "DESTINATION")]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) how: How,
}

/// How a destination is called. The configuration is read when something of it is asked for.
#[derive(Args)]
pub(crate) struct How {
    /// Our own AE title, instead of the configuration's for a destination of its own, and of PREREAD for others.
    #[arg(long, value_name = "AE")]
    pub(crate) calling: Option<String>,
    /// Call AE@host:port over TLS, with the certificates of the configuration.
    #[arg(long)]
    pub(crate) tls: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration and everything that it names.
    Check(ConfigArgument),
    /// Print a configuration with every key explained.
    Example,
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("an object is wanted, such as {\"max_length\": 40}".to_owned()) }
}

fn cells(text: &str) -> Result<[usize; 2], String> {
    let parse = |(rows, columns): (&str, &str)| Some([rows.parse().ok()?, columns.parse().ok()?]);
    text.split_once('x').and_then(parse).ok_or_else(|| "rows and columns are wanted, such as 8x8".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
