//! A scale from values to pixels, with ticks at round numbers.

/// A linear scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// The value at the scale's start.
    pub(super) low: f64,
    /// The value at its end; above `low`.
    pub(super) high: f64,
    /// Distance of ticks.
    step: f64,
    start_px: f64,
    end_px: f64,
}

impl Axis {
    /// A scale from `low` to `high`, both widened to whole ticks, of which there are about `tick_count`.
    pub(super) fn rounded(low: f64, high: f64, tick_count: usize, px: (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let step = round_step((high - low) / tick_count.max(1) as f64);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self { low, high, step, start_px: px.0, end_px: px.1 }
    }

    /// A scale for machine counts that holds all `values`: from zero, unless they are so close together
    /// that nothing could be told apart.
    pub(super) fn for_machines(values: &[f64], tick_count: usize, px: (f64, f64)) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        // From zero, what differs takes less than half the axis: show only that, with a margin.
        if least.is_finite() && most - least < most / 2.0 {
            let margin = ((most - least) * 0.06).max(1.0);
            Self::rounded((least - margin).max(0.0), most + margin, tick_count, px)
        } else {
            Self::rounded(0.0, most, tick_count, px)
        }
    }

    /// Where a value is.
    pub(super) fn px(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.start_px + share * (self.end_px - self.start_px)
    }

    /// The ticks' values, ends included.
    pub(super) fn ticks(&self) -> Vec<f64> {
        // Bounded: `step` is at least the span over a few times the number of ticks asked for.
        let mut ticks = Vec::new();
        let mut tick = self.low;
        while tick <= self.high + self.step / 2.0 {
            ticks.push(tick);
            tick = self.low + self.step * ticks.len() as f64;
        }
        ticks
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`, and at least 1.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= least - 1e-9).unwrap_or(10.0 * power);
    // Counts have no halves.
    if step < 5.0 { step.ceil() } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let check = |least, expected| assert_eq!(round_step(least), expected, "{least}");
        check(0.1, 1.0);
        check(1.2, 2.0);
        check(2.2, 3.0);
        check(130.0, 200.0);
        check(230.0, 250.0);
        check(251.0, 500.0);
        check(600.0, 1000.0);
    }

    #[test]
    fn close_values_do_not_start_at_zero_and_others_do() {
        let axis = Axis::for_machines(&[13_314.0, 14_625.0], 6, (0.0, 100.0));
        assert_eq!((axis.low, axis.high), (13_000.0, 14_750.0));
        assert_eq!(axis.ticks().len(), 8);
        assert_eq!(axis.px(13_875.0), 50.0);
        let axis = Axis::for_machines(&[20.0, 100.0], 5, (0.0, 100.0));
        assert_eq!((axis.low, axis.high), (0.0, 100.0));
        let axis = Axis::for_machines(&[7.0], 5, (0.0, 100.0));
        assert!(axis.low <= 6.0 && axis.high >= 8.0);
        let axis = Axis::for_machines(&[0.0], 5, (0.0, 100.0));
        assert!(axis.high > axis.low && axis.px(0.0) == 0.0);
    }
}
