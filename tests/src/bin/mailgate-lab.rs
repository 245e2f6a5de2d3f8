//! `cargo xtask lab`: plays the scenario of [`mailgate_tests::lab`] and tells it line by line.
#![expect(clippy::print_stdout, reason = "it narrates")]

use std::process::ExitCode;
use std::time::Instant;

use mailgate_tests::lab;

fn main() -> ExitCode {
    if let Some(obstacle) = lab::obstacle() {
        eprintln!("lab: {obstacle}");
        return ExitCode::FAILURE;
    }
    let begun = Instant::now();
    if let Err(error) = heed_signals() {
        eprintln!("lab: no signals, Ctrl-C will leave a folder behind: {error}");
    }
    let played =
        lab::play(&mut |told| println!("{:6.1} s  {}: {}", told.at.as_secs_f64(), told.claim, told.fact));
    match played {
        Ok(()) => {
            println!("{:6.1} s  all of it happened", begun.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C and SIGTERM end the scenario in order: children, namespaces and folders go as they do at the end.
fn heed_signals() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _within = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        mailgate_tests::interrupt();
    });
    Ok(())
}
