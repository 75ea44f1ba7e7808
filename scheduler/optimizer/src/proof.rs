//! Lower bounds for the trials of a compaction: every method's certificate, checked, and the best of them
//! for each trial.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use cell::TaskId;
use fauxmaster::Compaction;
use scheduler::{Accounting, Slot};
use serde::{Deserialize, Serialize};

use crate::bound::{BoundError, Effort, configuration, transport, volume};
use crate::certificate::{Certificate, Verified, verify};
use crate::model::Model;

/// A workload by shapes, with what may stay pending.
#[must_use]
pub fn model_of(compaction: &Compaction<'_>, accounting: Accounting) -> (Model, Vec<bool>) {
    let may_wait = may_wait(compaction);
    let by_task: std::collections::BTreeMap<TaskId, bool> =
        compaction.tasks().iter().copied().zip(may_wait.iter().copied()).collect();
    let model = Model::of(
        compaction.cell(),
        compaction.tasks(),
        accounting,
        compaction.pending_allowed() as u64,
        &|task| by_task[&task],
    );
    (model, may_wait)
}

/// Which of the compaction's tasks may stay pending, in their order.
fn may_wait(compaction: &Compaction<'_>) -> Vec<bool> {
    let Some(picky) = compaction.picky() else { return vec![true; compaction.tasks().len()] };
    let all: std::collections::BTreeMap<TaskId, bool> =
        compaction.cell().tasks().map(|(id, _, _)| id).zip(picky.iter().copied()).collect();
    compaction.tasks().iter().map(|task| all[task]).collect()
}

/// Certificates of several methods, each checked.
#[derive(Clone, Debug)]
pub struct Proofs {
    /// The certificates, with what they prove and the seconds that finding them took.
    pub all: Vec<Proof>,
    /// Solvers that failed, in words.
    pub failures: Vec<String>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The certificate.
    pub certificate: Certificate,
    /// What it proves.
    pub verified: Verified,
    /// Wall time of the search for it.
    pub seconds: f64,
}

impl Proofs {
    /// By every method, for machines in the mix that the cell has; without the configuration bound where no
    /// round is allowed. A certificate that does not pass the
    /// verifier is dropped and named among the failures.
    #[must_use]
    pub fn search(model: &Model, effort: Effort) -> Self {
        let mix: Vec<u64> = model.machines.iter().map(|machine| machine.count).collect();
        let mut proofs = Self { all: Vec::new(), failures: Vec::new() };
        let mut add = |found: Result<Vec<Certificate>, BoundError>, began: Instant| {
            let seconds = began.elapsed().as_secs_f64();
            match found {
                Err(error) => proofs.failures.push(error.to_string()),
                Ok(certificates) => {
                    for certificate in certificates {
                        match verify(model, &certificate) {
                            Ok(verified) => {
                                proofs.all.push(Proof { certificate, verified, seconds })
                            }
                            Err(flaw) => {
                                proofs.failures.push(format!("{}: {flaw}", certificate.method));
                            }
                        }
                    }
                }
            }
        };
        let began = Instant::now();
        add(Ok(volume(model)), began);
        let began = Instant::now();
        let fluid = transport(model, &mix);
        let start = fluid.as_ref().ok().cloned();
        add(fluid.map(|certificate| vec![certificate]), began);
        if let Some(start) = start.filter(|_| effort.rounds > 0) {
            let began = Instant::now();
            let found = configuration(model, &mix, &start, effort);
            add(found.map(|certificate| vec![certificate]), began);
        }
        proofs
    }

    /// The certificate whose prices weigh resources against each other best, of those whose multipliers
    /// cover every price: the transport bound's, or a volume's where the solver failed.
    #[must_use]
    pub fn prices(&self) -> Option<&Certificate> {
        let covers = |proof: &&Proof| {
            proof.certificate.machines.iter().all(|machine| machine.knapsack.is_none())
        };
        self.all.iter().rfind(covers).map(|proof| &proof.certificate)
    }

    /// The proof that needs the most machines of this order, and how many it needs; the first of equals.
    /// A number of machines of `None`: more than there are.
    #[must_use]
    pub fn best(&self, model: &Model, order: &[Slot]) -> Option<(&Proof, Option<usize>)> {
        let needed = |proof: &Proof| {
            proof.verified.machines_needed(order.iter().map(|&slot| model.machine_shape(slot)))
        };
        let rank = |needed: Option<usize>| needed.unwrap_or(usize::MAX);
        let mut best: Option<(&Proof, Option<usize>)> = None;
        for proof in &self.all {
            let needed = needed(proof);
            if best.is_none_or(|(_, most)| rank(needed) > rank(most)) {
                best = Some((proof, needed));
            }
        }
        best
    }

    /// Writes the certificates as JSON, see [`save`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let all: Vec<Certificate> = self.all.iter().map(|of| of.certificate.clone()).collect();
        save(&all, path)
    }
}

/// Writes certificates as JSON: to a temporary file first, which is then renamed.
///
/// # Errors
/// If the file cannot be written.
pub fn save(certificates: &[Certificate], path: &Path) -> anyhow::Result<()> {
    let file = CertificateFile { version: 1, certificates: certificates.to_vec() };
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(failed)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    serde_json::to_writer(&mut temporary, &file).with_context(failed)?;
    temporary.persist(path).with_context(failed)?;
    Ok(())
}

/// A file of certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateFile {
    /// Version of the format: 1.
    pub version: u32,
    /// The certificates, all of one workload.
    pub certificates: Vec<Certificate>,
}

impl CertificateFile {
    /// Reads a file of certificates.
    ///
    /// # Errors
    /// If it cannot be read, or is of another version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let text = std::fs::read_to_string(path).with_context(failed)?;
        let file: Self = serde_json::from_str(&text).with_context(failed)?;
        anyhow::ensure!(
            file.version == 1,
            "{}: version {} is not known; 1 is",
            path.display(),
            file.version
        );
        Ok(file)
    }
}
