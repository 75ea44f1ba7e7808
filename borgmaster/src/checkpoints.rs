//! The thread that makes checkpoints, so that the replica's own goes on meanwhile.

use std::thread;

use borgmaster_replica::CheckpointRequest;
use borgmaster_replica::server::Input;
use crossbeam_channel::{Receiver, Sender};

use crate::priority::step_back;
use crate::replica::Message;

/// Starts it; it ends with the replica.
///
/// # Errors
/// If the system has no more threads.
pub(crate) fn start(
    requests: Receiver<Box<CheckpointRequest>>,
    replica: Sender<Message>,
) -> std::io::Result<()> {
    let run = move || {
        step_back();
        for request in requests {
            let made = request.run();
            if replica.send(Message::Input(Input::Checkpointed(made))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("checkpoints".to_owned()).spawn(run).map(drop)
}
