//! Tells the master that there is this machine, and which packages it has: again whenever these change.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use cell::live::{Op, Outcome};
use cell::spec::MachineSpec;
use client::Client;
use tokio::sync::watch;

const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// What the master is told.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub masters: Vec<String>,
    pub user: String,
    pub spec: MachineSpec,
    /// Where this borglet is found.
    pub address: String,
}

/// Registers the machine, and goes on for as long as packages may change.
pub(crate) async fn keep(
    mut registration: Registration,
    mut packages: watch::Receiver<BTreeSet<String>>,
) {
    let mut back_off = BACK_OFF_FIRST;
    loop {
        registration.spec.packages = packages.borrow_and_update().clone();
        match register(&registration).await {
            Ok(()) => {
                tracing::info!(machine = registration.spec.name, "registered");
                back_off = BACK_OFF_FIRST;
                if packages.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "not registered");
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

async fn register(registration: &Registration) -> anyhow::Result<()> {
    let Registration { masters, user, spec, address } = registration;
    let mut client = Client::open(masters, user).await?;
    let machines = vec![(spec.clone(), address.clone())];
    let outcome: Outcome =
        client.ask(Op::AddMachines { machines }).await.context("adding the machine")?;
    match outcome {
        Ok(_) => Ok(()),
        Err(rejected) => bail!("the machine is not taken: {rejected}"),
    }
}
