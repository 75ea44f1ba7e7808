//! `capabilities`: what a user may do beyond their own jobs.

use std::collections::BTreeSet;

use cell::live::{Capability, Op};
use clap::Args;
use serde::Serialize;

use crate::args::{self, Options};
use crate::client::{Client, Session};
use crate::failure::Failure;
use crate::output::answer;

#[derive(Args, Debug)]
pub(crate) struct CapabilitiesArgs {
    /// Who gets them
    #[arg(value_name = "USER", value_parser = args::user)]
    owner: String,
    /// any-job, quota, machines, monitoring; none takes all away
    #[arg(value_name = "CAPABILITY", value_parser = capability)]
    capabilities: Vec<Capability>,
}

/// What was given, in JSON.
#[derive(Debug, Serialize)]
struct Given {
    user: String,
    capabilities: BTreeSet<Capability>,
}

fn capability(text: &str) -> Result<Capability, String> {
    Capability::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| {
        format!("it has to be one of {}", Capability::ALL.map(Capability::name).join(", "))
    })
}

pub(crate) async fn run(
    args: CapabilitiesArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let CapabilitiesArgs { owner, capabilities } = args;
    let given = Given { user: owner, capabilities: capabilities.into_iter().collect() };
    let op =
        Op::SetCapabilities { user: given.user.clone(), capabilities: given.capabilities.clone() };
    Session::open(client, options.user()?).await?.change(op).await?;
    answer(options.json, &given, |given| {
        let names: Vec<&str> = given.capabilities.iter().map(|it| it.name()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("{}: {names}", given.user)
    })
}
