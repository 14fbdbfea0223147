//! The command line `zsock`.

use std::io::Write as _;
use std::process::ExitCode;

use zsock_agent::sink::aside::Aside;
use zsock_agent::{cli, run};

fn main() -> ExitCode {
    match run::run(cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell where stderr is closed or not read; the exit status still says it.
            let _ = Aside::new(std::io::stderr()).write_all(cli::explain(&error).as_bytes());
            ExitCode::FAILURE
        }
    }
}
