//! Samples and their median.

use handover_guest::{Error, println, timer};
use handover_mark as mark;

/// Samples that count.
const SAMPLES: usize = 100;
/// Samples before them, which do not.
const WARM_UP: usize = 20;

/// Ticks from one reading of the counter to the next with nothing between.
fn reading() -> u64 {
    (0..WARM_UP).map(|_| ticks(|| ()).0).min().unwrap_or(0)
}

#[inline(always)]
fn ticks<T>(operation: impl FnOnce() -> T) -> (u64, T) {
    let start = timer::now();
    let result = operation();
    let end = timer::now();
    (end - start, result)
}

/// The median, without reading the counter.
fn median(mut samples: [u64; SAMPLES]) -> u64 {
    samples.sort_unstable();
    samples[SAMPLES / 2].saturating_sub(reading())
}

/// Prints a figure.
pub(crate) fn print(name: &str, instructions: u64) {
    mark::told();
    println!("bench: {name} {instructions}");
}

/// Prints the figure of what measures itself, from one reading of the counter to the next.
pub(crate) fn report(name: &str, mut sample: impl FnMut() -> u64) {
    (0..WARM_UP).for_each(|_| _ = sample());
    let mut samples = core::array::from_fn::<u64, SAMPLES, _>(|_| {
        mark::begin();
        let sample = sample();
        mark::end();
        sample
    });
    samples.sort_unstable();
    // The counter is read by one of the instructions that are counted.
    print(name, samples[SAMPLES / 2].saturating_sub(1));
}

/// What `operation` costs. It gets what the operation before it returned, `state` at first.
pub(crate) fn sampled<S>(
    mut state: S,
    mut operation: impl FnMut(S) -> Result<S, Error>,
) -> Result<(S, u64), Error> {
    let mut samples = [0; SAMPLES];
    for round in 0..WARM_UP + SAMPLES {
        mark::begin();
        let (sample, result) = ticks(|| operation(state));
        mark::end();
        state = result?;
        if let Some(counted) = round.checked_sub(WARM_UP) {
            samples[counted] = sample;
        }
    }
    Ok((state, median(samples)))
}

/// Measures `operation` as [`sampled`] does, and prints the figure.
pub(crate) fn measure<S>(
    name: &str,
    state: S,
    operation: impl FnMut(S) -> Result<S, Error>,
) -> Result<S, Error> {
    let (state, figure) = sampled(state, operation)?;
    print(name, figure);
    Ok(state)
}

/// Measures `first` and `second`, which takes what `first` made, and prints a figure for each.
pub(crate) fn measure_pair<T>(
    names: [&str; 2],
    mut first: impl FnMut() -> Result<T, Error>,
    mut second: impl FnMut(T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut samples = [[0; SAMPLES]; 2];
    for round in 0..WARM_UP + SAMPLES {
        mark::begin();
        let (made, result) = ticks(&mut first);
        mark::end();
        let result = result?;
        mark::begin_second();
        let (unmade, done) = ticks(|| second(result));
        mark::end();
        done?;
        if let Some(counted) = round.checked_sub(WARM_UP) {
            samples[0][counted] = made;
            samples[1][counted] = unmade;
        }
    }
    let [made, unmade] = samples;
    print(names[0], median(made));
    print(names[1], median(unmade));
    Ok(())
}
