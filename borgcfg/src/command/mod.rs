//! The commands, a file each (those that change jobs share one).
//!
//! In: arguments, a client. Out: an answer that is printed. What a command says in JSON are the structs of
//! `cell::live::view` and `proto::operate` by the names of their fields, or what its file declares.

pub(crate) mod capabilities;
pub(crate) mod change;
pub(crate) mod completions;
pub(crate) mod dev;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod fits;
pub(crate) mod logs;
pub(crate) mod machines;
pub(crate) mod quota;
pub(crate) mod replicas;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod wait;
pub(crate) mod why;

use crate::args::{Command, Options};
use crate::client::Client;
use crate::failure::Failure;

/// Carries a command out.
pub(crate) async fn run(
    command: Command,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    match command {
        Command::Submit(args) => change::submit(&args, options, client).await,
        Command::Status(args) => status::run(&args, options, client).await,
        Command::Update(args) => change::update(&args, options, client).await,
        Command::Kill(args) => change::kill(&args, options, client).await,
        Command::Why(args) => why::run(&args, options, client).await,
        Command::Fits(args) => fits::run(&args, options, client).await,
        Command::Machines(args) => machines::run(args, options, client).await,
        Command::Quota(args) => quota::run(args, options, client).await,
        Command::Capabilities(args) => capabilities::run(args, options, client).await,
        Command::Settings(args) => settings::run(&args, options, client).await,
        Command::Events(args) => events::run(&args, options, client).await,
        Command::Logs(args) => logs::run(&args, options, client).await,
        Command::Exec(args) => exec::run(args, options, client).await,
        Command::Top(args) => top::run(&args, options, client).await,
        Command::Dev(args) => dev::run(args, options).await,
        Command::Checkpoint(args) => file::checkpoint(&args, options, client).await,
        Command::Restore(args) => file::restore(&args, options, client).await,
        Command::Replicas(args) => replicas::run(args, options, client).await,
        Command::Completions(args) => completions::run(&args),
    }
}
