//! Which plugins run at which extension point: the default profile, changed by what a profile enables and
//! disables.
//!
//! `multiPoint` changes the list of plugins; a plugin of it runs at every point that it extends, unless
//! the point disables it. What a point enables runs there in any case, and its weight is that of the point
//! before that of `multiPoint`; no weight, and 0, mean 1. `*` disables all.
//!
//! Source: `KubeSchedulerConfiguration`, v1 (Kubernetes documentation, "Scheduler Configuration").

use std::collections::{BTreeMap, BTreeSet};

use scheduler::k8s::profile::NOT_MODELLED;
use scheduler::k8s::{Plugin, Profile};

use super::fault::{Fault, Read, check_distinct, in_range};
use super::schema::{PluginEntry, PluginSet, Plugins};

/// Plugins of the default profile that decide nothing that is modelled.
const WITHOUT_EFFECT: [&str; 3] = ["SchedulingGates", QUEUE_SORT, BIND];
const QUEUE_SORT: &str = "PrioritySort";
const BIND: &str = "DefaultBinder";
const ALL: &str = "*";
/// The highest weight; kube-scheduler itself refuses only what overflows.
const WEIGHT_MAX: i64 = 1_000_000;

/// The plugins of v1, modelled or not.
fn names() -> impl Iterator<Item = &'static str> {
    let modelled = Plugin::ALL.into_iter().filter(|plugin| *plugin != Plugin::NodePreferAvoidPods);
    modelled.map(Plugin::name).chain(NOT_MODELLED).chain(WITHOUT_EFFECT)
}

fn by_name(name: &str) -> Option<Plugin> {
    Plugin::ALL.into_iter().find(|plugin| plugin.name() == name)
}

/// The plugins that run by default at every point that they extend, with weights where they score.
type List = BTreeMap<&'static str, i64>;

/// Changes a default profile.
pub(super) fn apply(plugins: Plugins, profile: &mut Profile) -> Read<()> {
    let Plugins {
        pre_enqueue,
        queue_sort,
        pre_filter,
        filter,
        post_filter,
        pre_score,
        score,
        reserve,
        permit,
        pre_bind,
        bind,
        post_bind,
        multi_point,
    } = plugins;
    for (field, set) in [
        ("preEnqueue", pre_enqueue),
        ("reserve", reserve),
        ("permit", permit),
        ("preBind", pre_bind),
        ("postBind", post_bind),
    ] {
        Changes::read(field, set)?;
    }
    let by_default = names().map(|name| (name, by_name(name).map_or(0, |p| profile.weight(p))));
    let list = Changes::read("multiPoint", multi_point)?.over(by_default.collect());
    let at = |field, set, extends: fn(&str) -> bool| -> Read<List> {
        let changes = Changes::read(field, set)?;
        if let Some((i, name)) =
            changes.enabled.iter().map(|(name, _)| name).enumerate().find(|(_, n)| !extends(n))
        {
            return Err(Fault::new(
                &format!("{field}.enabled[{i}]"),
                format!("{name} does not extend {field}"),
            ));
        }
        Ok(changes.over(
            list.iter()
                .map(|(name, weight)| (*name, *weight))
                .filter(|(n, _)| extends(n))
                .collect(),
        ))
    };
    let sorts = at("queueSort", queue_sort, |name| name == QUEUE_SORT)?;
    if sorts.is_empty() {
        return Err(Fault::new(
            "queueSort",
            format!("no plugin sorts the queue: enable {QUEUE_SORT}"),
        ));
    }
    let binds = at("bind", bind, |name| name == BIND)?;
    if binds.is_empty() {
        return Err(Fault::new("bind", format!("no plugin binds pods: enable {BIND}")));
    }
    let post = at("postFilter", post_filter, |name| {
        name == Plugin::DefaultPreemption.name() || name == "DynamicResources"
    })?;
    if !post.contains_key(Plugin::DefaultPreemption.name()) {
        profile.preemption = None;
    }
    let filters = at("filter", filter, |name| {
        by_name(name).map_or(NOT_MODELLED.contains(&name), Plugin::filters)
    })?;
    let scores = at("score", score, |name| {
        by_name(name).map_or(NOT_MODELLED.contains(&name), Plugin::scores)
    })?;
    for (field, set, then) in
        [("preFilter", pre_filter, &filters), ("preScore", pre_score, &scores)]
    {
        let changes = Changes::read(field, set)?;
        let missing =
            then.keys().find(|name| changes.drops(name) && needs_preparation(field, name));
        if let Some(name) = missing {
            let after = if field == "preFilter" { "filter" } else { "score" };
            let problem = format!("{name} cannot {after} without it: disable it there too");
            return Err(Fault::new(&format!("{field}.disabled"), problem));
        }
    }
    profile.filters = filters.keys().filter_map(|name| by_name(name)).collect();
    profile.weights = scores
        .iter()
        .filter_map(|(name, weight)| Some((by_name(name)?, (*weight).max(1))))
        .collect();
    Ok(())
}

/// Whether a plugin reads at the next point what it prepares at this one.
fn needs_preparation(field: &str, name: &str) -> bool {
    let Some(plugin) = by_name(name) else { return false };
    let both = matches!(plugin, Plugin::PodTopologySpread | Plugin::InterPodAffinity);
    let one = match field {
        "preFilter" => matches!(plugin, Plugin::NodePorts | Plugin::NodeResourcesFit),
        _ => matches!(plugin, Plugin::TaintToleration | Plugin::NodeAffinity),
    };
    both || one
}

/// What one extension point changes.
struct Changes {
    enabled: Vec<(&'static str, i64)>,
    disabled: BTreeSet<&'static str>,
    disables_all: bool,
}

impl Changes {
    fn read(field: &str, set: Option<PluginSet>) -> Read<Self> {
        let PluginSet { enabled, disabled } = set.unwrap_or_default();
        let (enabled, disabled) = (enabled.unwrap_or_default(), disabled.unwrap_or_default());
        let mut changes =
            Self { enabled: Vec::new(), disabled: BTreeSet::new(), disables_all: false };
        let of_enabled = format!("{field}.enabled");
        check_distinct(&of_enabled, enabled.iter().map(|entry| &entry.name))?;
        for (i, PluginEntry { name, weight }) in enabled.into_iter().enumerate() {
            let place = format!("{of_enabled}[{i}]");
            let weight = in_range("weight", weight.unwrap_or(0), 0..=WEIGHT_MAX)
                .map_err(|fault| fault.within(&place))?;
            changes.enabled.push((known(&name).map_err(|fault| fault.within(&place))?, weight));
        }
        for (i, PluginEntry { name, .. }) in disabled.into_iter().enumerate() {
            if name == ALL {
                changes.disables_all = true;
            } else {
                let known = known(&name);
                let known =
                    known.map_err(|fault| fault.within(&format!("{field}.disabled[{i}]")))?;
                changes.disabled.insert(known);
            }
        }
        Ok(changes)
    }

    /// Whether a plugin that would run by default does not.
    fn drops(&self, name: &str) -> bool {
        let is_enabled = self.enabled.iter().any(|(enabled, _)| *enabled == name);
        !is_enabled && (self.disables_all || self.disabled.contains(name))
    }

    fn over(&self, mut list: List) -> List {
        list.retain(|name, _| !self.drops(name));
        list.extend(self.enabled.iter().copied());
        list
    }
}

fn known(name: &str) -> Read<&'static str> {
    names().find(|known| *known == name).ok_or_else(|| {
        let known = names().collect::<Vec<_>>().join(", ");
        Fault::new("name", format!("unknown plugin {name:?}; known are {known}"))
    })
}
