//! `replicas`: who keeps the cell.

use std::time::Duration;

use clap::{Args, Subcommand};
use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicaStatus, ReplicasQuery};
use proto::wire;
use tokio::time::{Instant, sleep};

use crate::args::{Options, address};
use crate::client::{Client, Repeat, answer};
use crate::failure::Failure;
use crate::output;
use crate::show::{Column, grouped, table};

/// A replica that has not taken over after so long does not.
const TRANSFER_MAX: Duration = Duration::from_secs(5);

/// Between two looks at who leads.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct ReplicasArgs {
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// List them
    ///
    /// Example: borgcfg replicas list
    List,
    /// Add one, which has to run: `borgmaster --data DIR --listen HOST:PORT --join HOST:PORT --id N`
    ///
    /// It learns the log at first, and votes once it has it.
    ///
    /// Example: borgcfg replicas add 4 127.0.0.1:7104
    Add {
        /// Its number, never used before in this cell
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Where the other replicas reach it
        #[arg(value_name = "HOST:PORT", value_parser = address)]
        address: String,
        /// Where clients reach it, if that is elsewhere
        #[arg(long, value_name = "HOST:PORT", value_parser = address)]
        client: Option<String>,
    },
    /// Put a new one, which has to run, in the place of another, as one whose disk is lost
    ///
    /// It learns the log at first, and takes the other's place in one step once it has it; stop that one
    /// afterwards. If another replica comes to lead before, both take part: then `replicas remove OLD`.
    ///
    /// Example: borgcfg replicas replace 3 4 127.0.0.1:7104
    Replace {
        /// The number of the one that goes
        #[arg(value_name = "OLD", value_parser = clap::value_parser!(u64).range(1..))]
        old: u64,
        /// The number of the new one, never used before in this cell
        #[arg(value_name = "NEW", value_parser = clap::value_parser!(u64).range(1..))]
        new: u64,
        /// Where the other replicas reach it
        #[arg(value_name = "HOST:PORT", value_parser = address)]
        address: String,
        /// Where clients reach it, if that is elsewhere
        #[arg(long, value_name = "HOST:PORT", value_parser = address)]
        client: Option<String>,
    },
    /// Remove one; stop it afterwards
    ///
    /// Example: borgcfg replicas remove 4
    Remove {
        /// Its number
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
    /// Have another one lead
    ///
    /// Example: borgcfg replicas transfer 2
    Transfer {
        /// Its number; without it whichever is best
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
    },
}

pub(crate) async fn run(
    args: ReplicasArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let change = match args.change {
        // Whoever asks may see them.
        None | Some(Change::List) => {
            let list = list(client).await?;
            return output::answer(options.json, &list, of_replicas);
        }
        Some(Change::Add { id, address, client }) => {
            let client_address = client.unwrap_or_else(|| address.clone());
            ReplicaChange::Add { id, address, client_address }
        }
        Some(Change::Replace { old, new, address, client }) => {
            let client_address = client.unwrap_or_else(|| address.clone());
            ReplicaChange::Replace { old, new, address, client_address }
        }
        Some(Change::Remove { id }) => ReplicaChange::Remove { id },
        Some(Change::Transfer { to }) => ReplicaChange::Transfer { to },
    };
    let user = options.user()?;
    let list = match change {
        ReplicaChange::Transfer { to } => transfer(client, user, to).await?,
        change @ (ReplicaChange::List
        | ReplicaChange::Add { .. }
        | ReplicaChange::Replace { .. }
        | ReplicaChange::Remove { .. }) => ask(client, user, change, Repeat::IfNotDone).await?,
    };
    output::answer(options.json, &list, of_replicas)
}

pub(super) async fn list(client: &mut Client) -> Result<ReplicaList, Failure> {
    ask(client, "nobody", ReplicaChange::List, Repeat::Freely).await
}

async fn ask(
    client: &mut Client,
    user: &str,
    change: ReplicaChange,
    repeat: Repeat,
) -> Result<ReplicaList, Failure> {
    let query = ReplicasQuery { user: user.to_owned(), change };
    let message = wire::ReplicasRequest::try_from(query)?;
    client
        .ask(repeat, |mut service| {
            let message = message.clone();
            async move { answer(service.replicas(message).await) }
        })
        .await
}

fn leader(list: &ReplicaList) -> Option<u64> {
    list.replicas.iter().find(|it| it.role == ReplicaRole::Leader).map(|it| it.id)
}

/// Asks for it, and waits until it is so: a replica that is not there or far behind does not take over.
async fn transfer(
    client: &mut Client,
    user: &str,
    to: Option<u64>,
) -> Result<ReplicaList, Failure> {
    let before = leader(&list(client).await?);
    ask(client, user, ReplicaChange::Transfer { to }, Repeat::IfNotDone).await?;
    let give_up = Instant::now() + TRANSFER_MAX.min(client.patience());
    loop {
        let list = list(client).await?;
        let now = leader(&list);
        if to.map_or(now.is_some() && now != before, |to| now == Some(to)) {
            return Ok(list);
        }
        if Instant::now() >= give_up {
            let who = to.map_or("another one".to_owned(), |to| format!("replica {to}"));
            return Err(Failure::Failed(format!(
                "{who} has not taken over: it may be down or behind; `borgcfg replicas` shows it"
            )));
        }
        sleep(AGAIN).await;
    }
}

fn of_replicas(list: &ReplicaList) -> String {
    let ReplicaList { term, committed_index, replicas } = list;
    let columns = [
        Column::Numbers("replica"),
        Column::Words("role"),
        Column::Words("for clients"),
        Column::Words("for replicas"),
        Column::Numbers("has index"),
        Column::Words("heard"),
    ];
    let rows = replicas.iter().map(|replica| {
        let ReplicaStatus { id, address, client_address, role, matched_index, is_heard } = replica;
        vec![
            id.to_string(),
            match role {
                ReplicaRole::Leader => "leader",
                ReplicaRole::Follower => "follower",
                ReplicaRole::Learner => "learner",
            }
            .to_owned(),
            client_address.clone(),
            address.clone(),
            grouped(*matched_index),
            if *is_heard { "yes" } else { "no" }.to_owned(),
        ]
    });
    format!("term {term}, committed up to index {committed_index}\n{}", table(&columns, rows))
}
