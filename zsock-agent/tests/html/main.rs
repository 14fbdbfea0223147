//! The HTML of a report in a real browser: drawn, clicked, filtered, and proof against hostile names.
//!
//! Needs `chromium` and `chromedriver`; a test that lacks them says SKIPPED and why (with `CI=true` that is a failure). Pages and
//! pictures stay in `target/tmp/html`.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Trial};
use zsock_agent::report::Report;
use zsock_agent::sink::html;

mod browser;
mod reports;
mod scenes;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let lacking = if arguments.list { None } else { browser::lacking() };
    fs::create_dir_all(directory()).expect("cargo made its parent");
    // Those of browsers whose test failed.
    let _ = fs::remove_dir_all(directory().join("profiles"));
    let driver = (lacking.is_none() && !arguments.list).then(|| Arc::new(browser::Driver::start()));
    let trials = scenes::ALL.iter().map(|(name, scene)| {
        let (lacking, driver) = (lacking.clone(), driver.clone());
        Trial::ignorable_test(*name, move || match (lacking, driver) {
            (None, Some(driver)) => {
                scene(&driver);
                Ok(Completion::Completed)
            }
            (reason, _) => {
                let reason = reason.unwrap_or_default();
                if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                    return Err(format!(
                        "could not run for want of set-up, and CI=true forbids skipping: {reason}"
                    )
                    .into());
                }
                println!("SKIPPED {name}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Where pages, pictures and the browser's own files go.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("html")
}

/// Writes the page of `report`.
fn page(name: &str, report: &Report) -> PathBuf {
    let file = directory().join(format!("{name}.html"));
    let mut out = BufWriter::new(File::create(&file).expect("the directory takes files"));
    html::write(report, &mut out).and_then(|()| out.flush()).expect("the disk has room");
    file
}
