//! Agreement of the Kubernetes model with the real scheduler: how cases and recorded decisions come out, by
//! plugin.
//!
//! In: folders of cases (`fauxmaster kube-check`) and of recorded runs (`fauxmaster kube-decisions`). Out: an
//! [`Agreement`], which the results hold and the page shows. Decides nothing about the comparison itself.

use std::collections::BTreeMap;
use std::path::Path;

use fauxmaster::kube::check::{self, Failure};
use fauxmaster::kube::decisions::{self, DecisionsReport};
use serde::Serialize;

/// How the model agrees with the real scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// By plugin, under the scheduler's own names.
    pub plugins: BTreeMap<String, PluginAgreement>,
    /// Recorded runs, in the order of the flags.
    pub recordings: Vec<Recording>,
    /// Cases that did not come out as expected.
    pub failures: Vec<Failure>,
}

/// How a plugin agrees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginAgreement {
    /// Cases that came out as expected.
    pub cases_passed: usize,
    /// Cases that did not.
    pub cases_failed: usize,
    /// Cases of kinds that are not modelled.
    pub cases_not_run: usize,
    /// Recorded pods to which the plugin gave, on every feasible node, the score that we give.
    pub scores_agreeing: usize,
    /// Recorded pods with scores.
    pub scores_compared: usize,
}

/// A recorded run, followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recording {
    /// Name of its folder.
    pub name: String,
    /// What came of it.
    #[serde(flatten)]
    pub report: DecisionsReport,
}

impl Agreement {
    /// Runs all cases of the one folders and follows the runs of the others; `None` without folders.
    ///
    /// # Errors
    /// If a folder cannot be read, or does not hold what it should.
    pub fn of(cases: &[String], recordings: &[String]) -> anyhow::Result<Option<Self>> {
        if cases.is_empty() && recordings.is_empty() {
            return Ok(None);
        }
        let mut agreement = Self::default();
        for folder in cases {
            let report = check::check_folder(Path::new(folder))?;
            for (name, result) in report.plugins {
                let plugin = agreement.plugin(&name);
                plugin.cases_passed += result.passed;
                plugin.cases_failed += result.failed;
                plugin.cases_not_run += result.not_run;
            }
            agreement.failures.extend(report.failures);
        }
        for folder in recordings {
            let folder = Path::new(folder);
            let report = decisions::follow(folder, &|_, _| ())?;
            for (name, scores) in report.scores.iter().filter(|(name, _)| *name != "total") {
                let plugin = agreement.plugin(name);
                plugin.scores_agreeing += scores.agreeing;
                plugin.scores_compared += scores.compared;
            }
            let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
            agreement.recordings.push(Recording { name: name.into_owned(), report });
        }
        Ok(Some(agreement))
    }

    fn plugin(&mut self, name: &str) -> &mut PluginAgreement {
        self.plugins.entry(scheduler_name(name).to_owned()).or_default()
    }

    /// Whether everything that was compared agrees.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.failures.is_empty() && self.recordings.iter().all(|run| run.report.agrees())
    }
}

/// The scheduler's name (of v1.36) for what a file of cases, or an older scheduler, calls otherwise.
fn scheduler_name(name: &str) -> &str {
    match name {
        "fit"
        | "least_allocated"
        | "most_allocated"
        | "requested_to_capacity_ratio"
        | "NodeResourcesLeastAllocated" => "NodeResourcesFit",
        "balanced_allocation" => "NodeResourcesBalancedAllocation",
        "image_locality" => "ImageLocality",
        "interpod_affinity_filter" | "interpod_affinity_score" => "InterPodAffinity",
        "node_affinity" => "NodeAffinity",
        "preemption_dry_run" | "preemption_eligible" | "preemption_pick" => "DefaultPreemption",
        "scheduling_loop" => "scheduling loop",
        "taint_toleration" => "TaintToleration",
        "topology_spread_filter" | "topology_spread_score" => "PodTopologySpread",
        "hpa_behavior" | "hpa_replicas" => "horizontal pod autoscaler",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_cases() -> String {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/kubernetes").to_owned()
    }

    #[test]
    fn our_own_cases_agree_under_the_names_of_the_scheduler() {
        assert_eq!(Agreement::of(&[], &[]).unwrap(), None);
        let agreement = Agreement::of(&[own_cases()], &[]).unwrap().unwrap();
        assert!(agreement.is_full());
        let fit = &agreement.plugins["NodeResourcesFit"];
        assert!(fit.cases_passed >= 20 && fit.cases_failed == 0, "{fit:?}");
        // A file whose name is not known here shows under that name, which is lower case.
        let unknown: Vec<&String> =
            agreement.plugins.keys().filter(|name| name.contains('_')).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn a_case_that_fails_is_counted_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cases = r#"{"schema_version":1,"plugin":"fit","cases":[
            {"id":"a","name":"n","kind":"fit_filter","nodes":[{"name":"n"}],"pod":{},
             "expected":{"status":"Unschedulable"}},
            {"id":"b","name":"n","kind":"hpa_value","hpa":{},"expected":{}}]}"#;
        std::fs::write(folder.path().join("fit.json"), cases).unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let agreement = Agreement::of(&[path], &[]).unwrap().unwrap();
        assert!(!agreement.is_full());
        let fit = &agreement.plugins["NodeResourcesFit"];
        assert_eq!((fit.cases_passed, fit.cases_failed, fit.cases_not_run), (0, 1, 1));
        assert_eq!(agreement.failures[0].id, "a");
    }

    #[test]
    fn a_missing_folder_is_named() {
        for (cases, recordings) in
            [(vec!["/no/cases".to_owned()], vec![]), (vec![], vec!["/no/run".to_owned()])]
        {
            let error = format!("{:#}", Agreement::of(&cases, &recordings).unwrap_err());
            assert!(error.contains("/no/"), "{error}");
        }
    }
}
