//! `ImageLocality`: prefers nodes that have the pod's images, more so where many nodes have them.
//!
//! With `N` nodes in the cluster, `h(i)` of which have image `i`, and `c` images in the pod:
//!
//! ```text
//! v     = sum over the images that the node has of trunc(size(i) · (h(i) / N)), kept in lo..=hi
//! lo    = 23 MiB, hi = 1000 MiB · c
//! score = (100 · (v - lo)) div (hi - lo)                                              0..=100
//! ```

use cell::kube::Pod;

use super::cluster::{Cluster, NodeIndex};

const MIB: i64 = 1024 * 1024;
const LEAST: i64 = 23 * MIB;
const MOST_EACH: i64 = 1000 * MIB;

/// The images of a pod, each with a tag.
#[must_use]
pub fn images(pod: &Pod) -> Vec<String> {
    let inits = pod.init_containers.iter().map(|init| &init.container);
    inits
        .chain(&pod.containers)
        .filter_map(|container| container.image.as_ref())
        .chain(&pod.volume_images)
        .map(|image| with_tag(image))
        .collect()
}

/// The name with `:latest` where there is no tag after the last slash.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// The score of a node for a pod with these images, 0..=100.
#[must_use]
pub fn score(cluster: &Cluster, images: &[String], node: NodeIndex) -> i64 {
    if images.is_empty() {
        return 0;
    }
    let sum: i64 = images
        .iter()
        .filter_map(|image| {
            let size = *cluster.node(node).images.get(image)?;
            #[expect(clippy::cast_precision_loss, reason = "as upstream computes it")]
            let spread = cluster.nodes_with_image(image) as f64 / cluster.node_count() as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "as upstream computes it"
            )]
            Some((size as f64 * spread) as i64)
        })
        .sum();
    let most = MOST_EACH * i64::try_from(images.len()).expect("a few images");
    100 * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn a_port_is_not_a_tag() {
        assert_eq!(with_tag("reg:5000/app"), "reg:5000/app:latest");
        assert_eq!(with_tag("reg/app:1"), "reg/app:1");
        assert_eq!(with_tag("app@sha256:00"), "app@sha256:00");
    }
}
