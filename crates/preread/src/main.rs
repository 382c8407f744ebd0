//! `preread`: the daemon and the command line.

// First, for its macros.
#[macro_use]
mod output;

mod admin;
mod cli;
mod clock;
mod commands;
mod commitment;
mod config;
mod defect;
mod deliver;
mod logs;
mod models;
mod pipeline;
mod reader;
mod receive;
mod reload;
mod retain;
mod route;
mod serve;
mod silence;
mod start;
mod tasks;
mod text_file;
mod told;
mod trust;
mod withdraw;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command, ConfigCommand, Model, Report, Route};
use commands::UsageError;

fn main() -> ExitCode {
    defect::log_places_only();
    // Usage errors end here, with clap's own message and exit code 2.
    let command = Cli::parse().command;
    match silence::see_to(&command).and_then(|()| run(command)) {
        Ok(code) => code,
        // Whoever read standard output has seen enough.
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("preread: {}", told::told(&error));
            failure(&error)
        }
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(command: Command) -> Result<ExitCode> {
    if let Command::Serve(arguments) = command {
        let config = commands::load_config(&arguments.config)?;
        logs::start(&config.log).map_err(|error| commands::usage(told::told(&error)))?;
        // What stops the daemon stands in its log, where the operator looks, and there alone: under systemd standard error
        // is the journal too.
        return Ok(match serve::run(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{}", told::told(&error));
                failure(&error)
            }
        });
    }
    logs::start_for_command();
    match command {
        Command::Serve(_) => Ok(ExitCode::SUCCESS),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Read(arguments) => commands::read::run(&arguments),
        Command::Model(Model::Run(arguments)) => commands::model::run(&arguments),
        Command::Model(Model::Check { dir, dtype, deadline, json }) => {
            commands::model::check(&dir, dtype.as_deref(), deadline, json)
        }
        Command::Pixels(arguments) => commands::pixels::run(&arguments),
        Command::Route(Route::Explain { paths, source, config }) => {
            commands::route::explain(&paths, &source, &config.config)
        }
        Command::Queue(arguments) => commands::queue::run(&arguments),
        Command::Model(Model::Calibrate(arguments)) => commands::calibrate::run(&arguments),
        Command::Report(Report::Validate { files }) => commands::report::validate(&files),
        Command::Report(Report::Structure { file, template, language, json }) => {
            commands::report::structure(&file, &template, &language, json)
        }
        Command::Report(Report::Check { file, json }) => commands::report::check(&file, json),
        Command::Report(Report::Schema) => commands::report::schema(),
        Command::Send(arguments) => commands::network::send(&arguments),
        Command::Echo(arguments) => commands::network::echo(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::Config(ConfigCommand::Check(arguments)) => commands::config::check(&arguments.config),
        Command::Config(ConfigCommand::Example) => commands::config::example(),
    }
}
