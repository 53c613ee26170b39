//! The table of figures: what was to be reached, what was measured.

use std::fmt;

/// One figure with its bar.
pub struct Row {
    pub figure: &'static str,
    pub bar: String,
    pub measured: String,
    pub reached: bool,
}

/// A Markdown table, so that it can stand in the README as it is.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a rate as the share of another that was measured in turn with it,
    /// and has to be at least `bar`: the middle one of the rounds' ratios, so
    /// that a machine that slows down on the way does no harm.
    pub fn share(&mut self, figure: &'static str, (rates, others): (&[f64], &[f64]), bar: f64) {
        let pairs = rates.iter().zip(others);
        let ratios: Vec<_> = pairs.map(|(rate, other)| rate / other).collect();
        let ratio = median(&ratios);
        let (rate, other) = (median(rates), median(others));
        self.0.push(Row {
            figure,
            bar: format!("≥ {bar}"),
            measured: format!("{ratio:.2} ({rate:.0} of {other:.0} acks/s)"),
            reached: ratio >= bar,
        });
    }

    /// Adds a rate that has to be at least so high.
    pub fn rate(&mut self, figure: &'static str, (measured, bar): (f64, f64), unit: &str) {
        self.0.push(Row {
            figure,
            bar: format!("≥ {bar} {unit}"),
            measured: format!("{measured:.0} {unit}"),
            reached: measured >= bar,
        });
    }

    /// Adds a figure that has to stay below `bar`.
    pub fn below(
        &mut self,
        figure: &'static str,
        (measured, bar): (f64, f64),
        unit: &str,
        detail: &str,
    ) {
        let detail = match detail {
            "" => String::new(),
            detail => format!(" ({detail})"),
        };
        self.0.push(Row {
            figure,
            bar: format!("< {} {unit}", shown(bar)),
            measured: format!("{} {unit}{detail}", shown(measured)),
            reached: measured < bar,
        });
    }

    /// Adds a figure, measured several times with something and without it in
    /// turn, that has to stay the same within noise: the median with it does
    /// not leave the range without it by more than a quarter and `grain`.
    pub fn unchanged(
        &mut self,
        figure: &'static str,
        (with, without): (&[f64], &[f64]),
        (grain, unit): (f64, &str),
    ) {
        let highest = without.iter().copied().fold(0.0, f64::max);
        let list = |values: &[f64]| {
            let values: Vec<_> = values.iter().map(|value| shown(*value)).collect();
            values.join(", ")
        };
        self.0.push(Row {
            figure,
            bar: "within noise".into(),
            measured: format!("{} {unit}; without {} {unit}", list(with), list(without)),
            reached: median(with) <= highest * 1.25 + grain,
        });
    }

    /// Whether every figure was reached.
    pub fn reached(&self) -> bool {
        self.0.iter().all(|row| row.reached)
    }
}

/// The middle one of several measurements.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn shown(value: f64) -> String {
    if value >= 10.0 && value.fract() < 0.05 || value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | bar | measured |")?;
        writeln!(f, "| --- | --- | --- |")?;
        for row in &self.0 {
            let missed = if row.reached { "" } else { " **missed**" };
            writeln!(
                f,
                "| {} | {} | {}{missed} |",
                row.figure, row.bar, row.measured
            )?;
        }
        Ok(())
    }
}
