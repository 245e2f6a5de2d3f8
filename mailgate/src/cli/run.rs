//! `mailgate run` and `mailgate check`.

use std::io::IsTerminal as _;

use clap::Args;

use super::{exit, failure};
use crate::admin::Failure;
use crate::config::{self, Config, Place};
use crate::{tour, wire};

/// How to start.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Put the kernel filter on this network interface; may be repeated.
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
}

/// What to check.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {}

/// Reads the configuration and says that it is well, or everything that is not.
pub(super) fn check(place: &Place, _: CheckArguments, json: bool) -> Result<(), Failure> {
    if json {
        let (name, text) = place.text()?;
        let (warnings, problems) = match config::parse(&name, &text) {
            Ok(config) => (config.warnings, None),
            Err(problems) => (Vec::new(), Some(problems)),
        };
        let listed = problems.as_ref().map(|problems| problems.problems.as_slice()).unwrap_or_default();
        let told = serde_json::json!({ "file": name, "problems": listed, "warnings": warnings });
        super::print(&told, &super::Show::Card, true);
        return problems.map_or(Ok(()), |problems| Err(failure(exit::CONFIG, problems.to_string())));
    }
    let config = place.load()?;
    let name =
        place.file.as_ref().map_or("the built-in default".to_owned(), |file| file.display().to_string());
    let warnings = config
        .warnings
        .iter()
        .map(|warning| format!("{name}:{}: warning: {}\n", warning.line, warning.message));
    let text = format!("{}{name} is well: {}", warnings.collect::<String>(), config.summary());
    super::print(&serde_json::json!(text), &super::Show::Card, false);
    Ok(())
}

/// Starts everything and stays until SIGINT or SIGTERM.
pub(super) fn run(place: &Place, arguments: Arguments) -> Result<(), Failure> {
    let mut config = place.load()?;
    config.add_interfaces(arguments.interface);
    log_to_stderr();
    for warning in &config.warnings {
        tracing::warn!(target: "mailgate", event = "config", line = warning.line, "{}", warning.message);
    }
    raise_file_limit();
    let tour = place.file.is_none().then(|| tour::prepare(&mut config)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failure(exit::SYSTEM, format!("no runtime: {error}")))?;
    runtime.block_on(serve(config, tour))
}

async fn serve(config: Config, tour: Option<tour::Tour>) -> Result<(), Failure> {
    let signals = Signals::listen().map_err(|error| failure(exit::SYSTEM, format!("no signals: {error}")))?;
    let running = wire::start(config).await?;
    if let Some(tour) = &tour {
        tour.welcome(&running).await?;
    }
    // Without systemd there is nobody to tell, which is well.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    signals.wait().await;
    tracing::info!(target: "mailgate", event = "stopping", "a signal arrived");
    if let Some(tour) = &tour {
        tour.leave(&running);
    }
    running.stop().await;
    Ok(())
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// As many descriptors as the system lets us have: a tarpit holds thousands of connections.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(target: "mailgate", event = "files", %error, "the limit of open files stays as it is");
    }
}

/// One fact per line on standard error; `MAILGATE_LOG` chooses, in the form of tracing's `EnvFilter`.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAILGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,hickory=error"));
    let terminal = std::io::stderr().is_terminal();
    // A second logger in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(std::io::stderr)
        .try_init();
}
