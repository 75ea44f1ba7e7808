//! The borglet of a machine, for what only the machine knows: usage, logs, commands inside tasks.
//!
//! In: a machine's address, as the master has it. Out: a client of its service, and failures in words.

use std::time::Duration;

use cell::live::Health;
use cell::live::view::{Answer, Filter, MachineStatus, Question, TaskStatus};
use proto::limits::MESSAGE_BYTES_MAX;
use proto::wire::node_client::NodeClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::client::Client;
use crate::failure::Failure;

/// A borglet's service.
pub(crate) type Node = NodeClient<Channel>;

/// A machine that takes no connection for so long is not waited for.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Connects to the borglet of a machine.
pub(crate) async fn connect(machine: &MachineStatus) -> Result<Node, Failure> {
    let MachineStatus { name, address, .. } = machine;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| {
        Failure::Failed(format!("machine {name} is at {address:?}, which is no address HOST:PORT"))
    })?;
    let channel = endpoint.connect_timeout(CONNECT_MAX).tcp_nodelay(true).connect().await;
    let channel = channel.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let why = source.unwrap_or_else(|| error.to_string());
        Failure::Failed(format!(
            "the borglet of machine {name} does not answer at {address}: {why}"
        ))
    })?;
    Ok(NodeClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// What a borglet did not do, and why.
pub(crate) fn failure(machine: &str, status: &Status) -> Failure {
    let code = status.code();
    if code == Code::InvalidArgument {
        return Failure::BadInput(status.message().to_owned());
    }
    // What serves machines to load tests has no tasks that write anything.
    if code == Code::Unimplemented {
        return Failure::Failed(format!(
            "machine {machine} runs no real tasks: what serves it cannot tell"
        ));
    }
    Failure::Failed(status.message().to_owned())
}

/// The machines of the cell that are heard.
pub(crate) async fn machines(client: &mut Client) -> Result<Vec<MachineStatus>, Failure> {
    let question = |paging| Question::Machines(Filter::default(), paging);
    let read = |answer| if let Answer::Machines(page) = answer { Some(page) } else { None };
    let (mut machines, _) = client.list(usize::MAX, question, read).await?;
    machines.retain(|machine| matches!(machine.health, Health::Up));
    Ok(machines)
}

/// A task by its name.
pub(crate) async fn task(client: &mut Client, name: &str) -> Result<TaskStatus, Failure> {
    let Some((job, _)) = name.rsplit_once('/') else {
        let problem = format!("{name:?} is no task: that is JOB/INDEX, such as {name}/0");
        return Err(Failure::BadInput(problem));
    };
    // So that one that is not there is told from a job that is not.
    client.job(job).await?;
    let filter = Filter { job: Some(job.to_owned()), ..Filter::default() };
    let question = |paging| Question::Tasks(filter.clone(), paging);
    let read = |answer| if let Answer::Tasks(page) = answer { Some(page) } else { None };
    let (tasks, _) = client.list(usize::MAX, question, read).await?;
    let count = tasks.len();
    tasks.into_iter().find(|task| task.name == name).ok_or_else(|| {
        Failure::Failed(format!("{job} has no task {name}: it has {count}, numbered from 0"))
    })
}

/// The machine that a task runs on.
pub(crate) async fn machine_of(client: &mut Client, name: &str) -> Result<MachineStatus, Failure> {
    let task = task(client, name).await?;
    let Some(on) = task.machine else {
        return Err(Failure::Failed(format!(
            "{name} is on no machine, it is {}; `borgcfg status` shows what runs",
            task.phase.name()
        )));
    };
    let all = machines(client).await?;
    all.into_iter().find(|machine| machine.name == on).ok_or_else(|| {
        Failure::Failed(format!("machine {on}, where {name} runs, is not heard just now"))
    })
}
