//! The arguments of plugins, checked as kube-scheduler checks them when it starts.

use cell::kube::{
    InclusionPolicy, NODE_NAME_FIELD, NodeAffinity, NodeTerm, Operator, Requirement,
    SpreadConstraint, UnsatisfiableAction, Weighted, is_label_key,
};
use scheduler::k8s::fit::{ResourceWeight, Shape, ShapePoint, Strategy};
use scheduler::k8s::profile::{PreemptionArgs, SpreadDefaults};
use scheduler::k8s::{Plugin, Profile};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::API_VERSION;
use super::fault::{Fault, Read, check_distinct, each, in_range};
use super::schema;

/// Reads a plugin's arguments into a profile.
pub(super) fn apply(name: &str, args: Option<Value>, profile: &mut Profile) -> Read<()> {
    let of_plugin = Plugin::ALL.into_iter().find(|plugin| plugin.name() == name);
    match (of_plugin, name) {
        (Some(Plugin::NodeResourcesFit), _) => fit(parse(name, args)?, profile),
        (Some(Plugin::NodeResourcesBalancedAllocation), _) => balanced(parse(name, args)?, profile),
        (Some(Plugin::NodeAffinity), _) => node_affinity(parse(name, args)?, profile),
        (Some(Plugin::PodTopologySpread), _) => topology_spread(parse(name, args)?, profile),
        (Some(Plugin::InterPodAffinity), _) => inter_pod_affinity(parse(name, args)?, profile),
        (Some(Plugin::DefaultPreemption), _) => default_preemption(&parse(name, args)?, profile),
        (_, "VolumeBinding") => parse::<schema::VolumeBindingArgs>(name, args).map(drop),
        (_, "DynamicResources") => parse::<schema::DynamicResourcesArgs>(name, args).map(drop),
        _ => Err(Fault::new("name", format!("{name:?} is no plugin that takes arguments"))),
    }
}

fn parse<T: DeserializeOwned + Default>(name: &str, args: Option<Value>) -> Read<T> {
    let Some(mut args) = args.filter(|args| !args.is_null()) else { return Ok(T::default()) };
    if let Value::Object(fields) = &mut args {
        let expected = [("apiVersion", API_VERSION.to_owned()), ("kind", format!("{name}Args"))];
        for (field, expected) in expected {
            let given = fields.remove(field).filter(|given| !given.is_null());
            if given.is_some_and(|given| given.as_str() != Some(&expected)) {
                return Err(Fault::new(&format!("args.{field}"), format!("it is not {expected}")));
            }
        }
    }
    serde_json::from_value(args).map_err(|error| Fault::new("args", error))
}

fn fit(args: schema::FitArgs, profile: &mut Profile) -> Read<()> {
    let ignored = each("args.ignoredResources", args.ignored_resources, |name| {
        if is_label_key(&name) {
            return Ok(name);
        }
        Err(Fault::new("", format!("{name:?} is not a resource's name")))
    })?;
    let groups = each("args.ignoredResourceGroups", args.ignored_resource_groups, |name| {
        if !name.is_empty() && !name.contains('/') {
            return Ok(name);
        }
        Err(Fault::new("", format!("{name:?} is not what stands before a resource's slash")))
    })?;
    profile.ignored_resources = ignored.into_iter().collect();
    profile.ignored_resource_groups = groups.into_iter().collect();
    let Some(scoring) = args.scoring_strategy else { return Ok(()) };
    let within = |fault: Fault| fault.within("args.scoringStrategy");
    profile.fit_resources = resources(scoring.resources, 100).map_err(within)?;
    profile.strategy = match scoring.kind {
        schema::StrategyType::LeastAllocated => Strategy::LeastAllocated,
        schema::StrategyType::MostAllocated => Strategy::MostAllocated,
        schema::StrategyType::RequestedToCapacityRatio => {
            let shape = shape(scoring.requested_to_capacity_ratio.and_then(|ratio| ratio.shape));
            let shape = shape.map_err(|fault| within(fault.within("requestedToCapacityRatio")))?;
            Strategy::RequestedToCapacityRatio(shape)
        }
    };
    Ok(())
}

fn resources(list: Option<Vec<schema::Resource>>, weight_max: i64) -> Read<Vec<ResourceWeight>> {
    let list = list.unwrap_or_default();
    if list.is_empty() {
        return Ok(ResourceWeight::cpu_and_memory());
    }
    check_distinct("resources", list.iter().map(|resource| &resource.name))?;
    each("resources", Some(list), |schema::Resource { name, weight }| {
        if !is_label_key(&name) {
            return Err(Fault::new("name", format!("{name:?} is not a resource's name")));
        }
        let weight = weight.filter(|weight| *weight != 0).unwrap_or(1);
        Ok(ResourceWeight { name, weight: in_range("weight", weight, 1..=weight_max)? })
    })
}

fn shape(points: Option<Vec<schema::Point>>) -> Read<Shape> {
    let mut least = 0;
    let points = each("shape", points, |schema::Point { utilization, score }| {
        let point = ShapePoint {
            utilization: in_range("utilization", utilization, 0..=100)?,
            score: in_range("score", score, 0..=10)?,
        };
        if utilization < least {
            let problem = format!("{utilization} is not above that of the point before");
            return Err(Fault::new("utilization", problem));
        }
        least = utilization + 1;
        Ok(point)
    })?;
    if points.is_empty() {
        return Err(Fault::new("shape", "it has no point"));
    }
    Ok(Shape(points))
}

fn balanced(args: schema::BalancedAllocationArgs, profile: &mut Profile) -> Read<()> {
    profile.balanced_resources =
        resources(args.resources, 1).map_err(|fault| fault.within("args"))?;
    Ok(())
}

fn node_affinity(args: schema::NodeAffinityArgs, profile: &mut Profile) -> Read<()> {
    let Some(added) = args.added_affinity else { return Ok(()) };
    profile.added_affinity = affinity(added).map_err(|fault| fault.within("args.addedAffinity"))?;
    Ok(())
}

fn affinity(added: schema::NodeAffinity) -> Read<NodeAffinity> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let required = added.required.map(|selector| {
        let terms = each(REQUIRED, Some(selector.node_selector_terms), node_term)?;
        if terms.is_empty() {
            return Err(Fault::new(REQUIRED, "it has no term"));
        }
        Ok(terms)
    });
    let preferred =
        each(PREFERRED, added.preferred, |schema::PreferredTerm { weight, preference }| {
            Ok(Weighted {
                weight: in_range("weight", weight, 1..=100)?,
                term: node_term(preference).map_err(|fault| fault.within("preference"))?,
            })
        })?;
    Ok(NodeAffinity { required: required.transpose()?, preferred })
}

fn node_term(term: schema::NodeTerm) -> Read<NodeTerm> {
    let expressions = each("matchExpressions", term.match_expressions, |of| {
        if !is_label_key(&of.key) {
            return Err(Fault::new("key", format!("{:?} is not a label's key", of.key)));
        }
        requirement(of)
    })?;
    let fields = each("matchFields", term.match_fields, |of| {
        if of.key != NODE_NAME_FIELD {
            return Err(Fault::new("key", format!("{:?} is not {NODE_NAME_FIELD}", of.key)));
        }
        let field = requirement(of)?;
        if !matches!(field.operator, Operator::In | Operator::NotIn) || field.values.len() != 1 {
            return Err(Fault::new("", "a field is compared by In or NotIn with one value"));
        }
        Ok(field)
    })?;
    Ok(NodeTerm { expressions, fields })
}

fn requirement(of: schema::Requirement) -> Read<Requirement> {
    let operator = Operator::by_name(&of.operator)
        .ok_or_else(|| Fault::new("operator", format!("{:?} is no operator", of.operator)))?;
    let requirement = Requirement { key: of.key, operator, values: of.values.unwrap_or_default() };
    if requirement.is_valid() {
        return Ok(requirement);
    }
    Err(Fault::new(
        "values",
        format!("{:?} cannot be compared by {operator:?}", requirement.values),
    ))
}

fn topology_spread(args: schema::TopologySpreadArgs, profile: &mut Profile) -> Read<()> {
    let constraints = args.default_constraints.unwrap_or_default();
    profile.spread_defaults = match args.defaulting_type.unwrap_or_default() {
        schema::DefaultingType::List => {
            let keys = constraints
                .iter()
                .map(|c| format!("{} {:?}", c.topology_key, c.when_unsatisfiable));
            check_distinct("args.defaultConstraints", keys)?;
            SpreadDefaults::List(each("args.defaultConstraints", Some(constraints), constraint)?)
        }
        schema::DefaultingType::System if constraints.is_empty() => SpreadDefaults::System,
        schema::DefaultingType::System => {
            let problem = "they count only with defaultingType: List, and it is System";
            return Err(Fault::new("args.defaultConstraints", problem));
        }
    };
    Ok(())
}

fn constraint(of: schema::Constraint) -> Read<SpreadConstraint> {
    let max_skew = in_range("maxSkew", of.max_skew, 1..=i64::from(i32::MAX))?;
    if !is_label_key(&of.topology_key) {
        return Err(Fault::new(
            "topologyKey",
            format!("{:?} is not a label's key", of.topology_key),
        ));
    }
    if of.label_selector.is_some() {
        let problem = "a default constraint has none: each pod's services and owner give it";
        return Err(Fault::new("labelSelector", problem));
    }
    let action = match of.when_unsatisfiable {
        schema::Action::DoNotSchedule => UnsatisfiableAction::DoNotSchedule,
        schema::Action::ScheduleAnyway => UnsatisfiableAction::ScheduleAnyway,
    };
    if of.min_domains.is_some() && action == UnsatisfiableAction::ScheduleAnyway {
        return Err(Fault::new(
            "minDomains",
            "it counts only with whenUnsatisfiable: DoNotSchedule",
        ));
    }
    let mut read = SpreadConstraint::new(max_skew, &of.topology_key, action, None);
    read.min_domains =
        in_range("minDomains", of.min_domains.unwrap_or(1), 1..=i64::from(i32::MAX))?;
    let inclusion = |policy| match policy {
        schema::Inclusion::Honor => InclusionPolicy::Honor,
        schema::Inclusion::Ignore => InclusionPolicy::Ignore,
    };
    if let Some(policy) = of.node_affinity_policy {
        read.node_affinity_policy = inclusion(policy);
    }
    if let Some(policy) = of.node_taints_policy {
        read.node_taints_policy = inclusion(policy);
    }
    if of.match_label_keys.is_some_and(|keys| !keys.is_empty()) {
        return Err(Fault::new(
            "matchLabelKeys",
            "a default constraint without labelSelector has none",
        ));
    }
    Ok(read)
}

fn inter_pod_affinity(args: schema::InterPodAffinityArgs, profile: &mut Profile) -> Read<()> {
    if let Some(weight) = args.hard_pod_affinity_weight {
        profile.hard_pod_affinity_weight = in_range("args.hardPodAffinityWeight", weight, 0..=100)?;
    }
    profile.ignore_preferred_terms_of_existing_pods =
        args.ignore_preferred_terms_of_existing_pods.unwrap_or(false);
    Ok(())
}

fn default_preemption(args: &schema::DefaultPreemptionArgs, profile: &mut Profile) -> Read<()> {
    let percentage = args.min_candidate_nodes_percentage.unwrap_or(10);
    let absolute = args.min_candidate_nodes_absolute.unwrap_or(100);
    let percentage = in_range("args.minCandidateNodesPercentage", percentage, 0..=100)?;
    let absolute = in_range("args.minCandidateNodesAbsolute", absolute, 0..=i64::from(i32::MAX))?;
    if percentage == 0 && absolute == 0 {
        let problem = "minCandidateNodesPercentage and minCandidateNodesAbsolute cannot both be 0";
        return Err(Fault::new("args", problem));
    }
    let whole = |value| usize::try_from(value).expect("the range was checked");
    profile.preemption = Some(PreemptionArgs {
        min_candidate_nodes_percentage: whole(percentage),
        min_candidate_nodes_absolute: whole(absolute),
    });
    Ok(())
}
