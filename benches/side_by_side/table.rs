//! The figures, as the README has them.

use super::measure::Sample;

/// Prints one line per case: median and range, and the ratio to the first case, which is taken round by round, because the machine is
/// slower in one round than in another.
pub fn print(names: &[&str], samples: &[Vec<Sample>]) {
    let Some(base) = samples.first() else { return };
    println!(
        "| case | CPU per request, median (range) | ratio to bare pass, median (range) | requests/s, median |"
    );
    println!("|---|---|---|---|");
    for (name, taken) in names.iter().zip(samples) {
        let cpu = spread(taken.iter().map(|sample| sample.cpu_us));
        let ratio = spread(taken.iter().zip(base).map(|(own, other)| own.cpu_us / other.cpu_us));
        let rate = spread(taken.iter().map(|sample| sample.rate));
        println!(
            "| {name} | {:.1} us ({:.1}-{:.1}) | {:.2} ({:.2}-{:.2}) | {:.0} |",
            cpu.median, cpu.least, cpu.most, ratio.median, ratio.least, ratio.most, rate.median
        );
    }
}

#[derive(Default)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    Spread { least: at(0), median: at(sorted.len() / 2), most: at(sorted.len().saturating_sub(1)) }
}
