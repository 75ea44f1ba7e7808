//! Threads that plan passes.

use std::thread;

use borgmaster_core::PlanRequest;
use borgmaster_replica::server::Input;
use crossbeam_channel::{Receiver, Sender};

use crate::priority::step_back;
use crate::replica::Message;

/// Starts so many; each ends with the replica.
///
/// # Errors
/// If the system has no more threads.
pub(crate) fn start(
    count: u32,
    requests: &Receiver<Box<PlanRequest>>,
    replica: &Sender<Message>,
) -> std::io::Result<()> {
    for number in 0..count {
        let (requests, replica) = (requests.clone(), replica.clone());
        thread::Builder::new().name(format!("planner-{number}")).spawn(move || {
            step_back();
            for request in requests {
                let plan = request.run();
                if replica.send(Message::Input(Input::Planned(plan))).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(())
}
