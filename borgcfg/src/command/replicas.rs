//! `replicas`: who keeps the cell.

use clap::{Args, Subcommand};
use proto::operate::{ReplicaChange, ReplicaList, ReplicaRole, ReplicaStatus, ReplicasQuery};
use proto::wire;

use crate::args::{Options, address};
use crate::client::{Client, Repeat, answer};
use crate::failure::Failure;
use crate::output;
use crate::show::{Column, grouped, table};

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
    let (change, repeat) = match args.change {
        None | Some(Change::List) => (ReplicaChange::List, Repeat::Freely),
        Some(Change::Add { id, address, client }) => {
            let client_address = client.unwrap_or_else(|| address.clone());
            (ReplicaChange::Add { id, address, client_address }, Repeat::IfNotDone)
        }
        Some(Change::Remove { id }) => (ReplicaChange::Remove { id }, Repeat::IfNotDone),
        Some(Change::Transfer { to }) => (ReplicaChange::Transfer { to }, Repeat::IfNotDone),
    };
    let user = match &change {
        // Whoever asks may see them.
        ReplicaChange::List => options.user().unwrap_or("nobody"),
        ReplicaChange::Add { .. }
        | ReplicaChange::Remove { .. }
        | ReplicaChange::Transfer { .. } => options.user()?,
    };
    let query = ReplicasQuery { user: user.to_owned(), change };
    let message = wire::ReplicasRequest::try_from(query)?;
    let list: ReplicaList = client
        .ask(repeat, |mut service| {
            let message = message.clone();
            async move { answer(service.replicas(message).await) }
        })
        .await?;
    output::answer(options.json, &list, of_replicas)
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
