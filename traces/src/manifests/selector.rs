//! Selectors and affinity terms, checked as the API server checks them.

use cell::kube::{
    Labels, NODE_NAME_FIELD, NodeTerm, Operator, Requirement, Selector, is_label_key,
    is_label_value,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::fault::{Fault, each};
use crate::error::quoted;

/// A label selector; operators are those for labels, keys and values must be label keys and values.
pub(super) fn label_selector(selector: &LabelSelector) -> Result<Selector, Fault> {
    let mut requirements = equal_to(selector.match_labels.iter().flatten());
    for (key, value) in selector.match_labels.iter().flatten() {
        check_label(key, [value]).map_err(|fault| fault.under(key).within("matchLabels"))?;
    }
    let expressions = selector.match_expressions.iter().flatten();
    requirements.extend(each("matchExpressions", expressions, |expression| {
        let operator = operator(&expression.operator)?;
        if matches!(operator, Operator::Gt | Operator::Lt) {
            return Err(unknown_operator(&expression.operator));
        }
        let values = expression.values.clone().unwrap_or_default();
        check_label(&expression.key, &values)?;
        requirement(&expression.key, operator, values)
    })?);
    Ok(Selector(requirements))
}

/// `key = value` for each label.
pub(super) fn equal_to<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Vec<Requirement> {
    labels.into_iter().map(|(key, value)| Requirement::is_in(key, [value.clone()])).collect()
}

/// A term of a node affinity. Values that are no label values are let through: kube-scheduler takes the
/// term for one that matches nothing.
pub(super) fn node_term(term: &core::NodeSelectorTerm) -> Result<NodeTerm, Fault> {
    let read = |of: &core::NodeSelectorRequirement| {
        requirement(&of.key, operator(&of.operator)?, of.values.clone().unwrap_or_default())
    };
    let expressions = each("matchExpressions", term.match_expressions.iter().flatten(), read)?;
    let fields = each("matchFields", term.match_fields.iter().flatten(), |of| {
        let field = read(of)?;
        if field.key != NODE_NAME_FIELD {
            let problem = format!("{} is not `{NODE_NAME_FIELD}`", quoted(&field.key));
            return Err(Fault::of("key", problem));
        }
        if !matches!(field.operator, Operator::In | Operator::NotIn) || field.values.len() != 1 {
            return Err(Fault::new("a field is compared by In or NotIn with one value"));
        }
        Ok(field)
    })?;
    Ok(NodeTerm { expressions, fields })
}

/// Adds what `matchLabelKeys` and `mismatchLabelKeys` say, as the API server does: for each such label
/// that the pod has. To a selector that is absent there is nothing to add.
pub(super) fn merge_label_keys(
    selector: &mut Option<Selector>,
    labels: &Labels,
    keys: &[String],
    operator: Operator,
) {
    let Some(Selector(requirements)) = selector else { return };
    for key in keys {
        if let Some(value) = labels.get(key) {
            let values = vec![value.clone()];
            let requirement = Requirement { key: key.clone(), operator, values };
            // The API server has done it already for a pod that runs.
            if !requirements.contains(&requirement) {
                requirements.push(requirement);
            }
        }
    }
}

fn operator(name: &str) -> Result<Operator, Fault> {
    Operator::by_name(name).ok_or_else(|| unknown_operator(name))
}

fn unknown_operator(name: &str) -> Fault {
    Fault::of("operator", format_args!("{} is no operator here", quoted(name)))
}

fn requirement(key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, Fault> {
    let problem = match operator {
        Operator::In | Operator::NotIn => values.is_empty().then_some("In and NotIn need values"),
        Operator::Exists | Operator::DoesNotExist => {
            (!values.is_empty()).then_some("Exists and DoesNotExist take no value")
        }
        Operator::Gt | Operator::Lt => {
            (values.len() != 1).then_some("Gt and Lt take one value, an integer")
        }
    };
    match problem {
        Some(problem) => Err(Fault::of("values", problem)),
        None => Ok(Requirement { key: key.to_owned(), operator, values }),
    }
}

fn check_label<'a>(key: &str, values: impl IntoIterator<Item = &'a String>) -> Result<(), Fault> {
    if !is_label_key(key) {
        return Err(Fault::new(format_args!("{} is not a label's key", quoted(key))));
    }
    match values.into_iter().find(|value| !is_label_value(value)) {
        Some(value) => Err(Fault::new(format_args!("{} is not a label's value", quoted(value)))),
        None => Ok(()),
    }
}
