//! The targets as a picture: bars of MMS and of the others, in SVG that needs no program and no
//! font of its own.

use super::contender::Contender;
use super::table::grouped;
use super::targets::{Results, TARGETS, Target};
use std::fmt::Write as _;

/// Measures in pixels.
const WIDTH: u32 = 860;
const NAME: u32 = 110;
const LONGEST_BAR: f64 = 600.0;
const BAR: u32 = 16;
const GAP: u32 = 4;
const HEAD: u32 = 34;

/// One group of bars for each target that more than one server has a figure for.
#[must_use]
pub fn picture(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 0;
    for target in &TARGETS {
        let bars = bars(results, target);
        if bars.len() > 1 {
            y = group(target.what, &bars, y, &mut body);
        }
    }
    let height = y + GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn bars(results: &Results, target: &Target) -> Vec<(Contender, f64)> {
    let figure = |who| Some((who, results.figure(target.trial, who, target.metric)?));
    Contender::ALL.into_iter().filter_map(figure).collect()
}

/// Draws a group from `y` down; returns where the next one begins.
fn group(what: &str, bars: &[(Contender, f64)], y: u32, out: &mut String) -> u32 {
    let longest = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
    // The texts of this program have no character that XML would mind.
    _ = writeln!(
        out,
        "<text x=\"8\" y=\"{}\" font-weight=\"bold\" fill=\"#222222\">{what}</text>",
        y + HEAD - 12
    );
    let mut top = y + HEAD;
    for (who, figure) in bars {
        let length = (figure / longest * LONGEST_BAR).max(1.0);
        let fill = match who {
            Contender::Mms => "#c2410c",
            Contender::Relay => "#737373",
            Contender::Answering => "#a3a3a3",
            _ => "#a8c5da",
        };
        let (base, x) = (top + BAR - 4, f64::from(NAME) + length + 6.0);
        _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\" fill=\"#222222\">{}</text>\
             <rect x=\"{NAME}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" \
             fill=\"{fill}\"/>\
             <text x=\"{x:.1}\" y=\"{base}\" fill=\"#222222\">{}</text>",
            NAME - 6,
            who.name(),
            grouped(*figure)
        );
        top += BAR + GAP;
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::run::{Metric, Run};

    #[test]
    fn a_group_for_each_target_that_is_compared() {
        let run = |value| Run::of(Metric::Cpu, value);
        let runs = vec![
            ("pairs", Contender::Mms, run(0.5)),
            ("pairs", Contender::Relay, run(0.25)),
            ("fan-out", Contender::Mms, run(3.0)),
        ];
        let svg = picture(&Results { runs, ..Results::default() });
        assert_eq!(svg.matches("font-weight").count(), 1, "one alone is no comparison: {svg}");
        assert!(svg.contains("width=\"600.0\"") && svg.contains("width=\"300.0\""), "{svg}");
        assert!(svg.contains(">0.50<") && svg.contains(">0.25<"), "{svg}");
        for target in &TARGETS {
            assert!(!target.what.contains(['<', '&']), "{}", target.what);
        }
    }
}
