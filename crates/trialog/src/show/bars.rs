//! Draws intervals as text, on one scale.

/// Characters of a bar.
const WIDTH: usize = 48;

/// An interval with its estimate and its labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) ends: [f64; 2],
    pub(super) text: String,
}

/// Draws the bars below each other, with a line at 0; empty without bars.
pub(super) fn draw(bars: &[Bar]) -> String {
    let low = bars.iter().map(|bar| bar.ends[0]).fold(0.0, f64::min);
    let high = bars.iter().map(|bar| bar.ends[1]).fold(0.0, f64::max);
    let scale = (WIDTH - 1) as f64 / (high - low);
    if bars.is_empty() || !scale.is_finite() {
        return String::new();
    }
    let place = |value: f64| (((value - low) * scale).round() as usize).min(WIDTH - 1);
    let longest = bars.iter().map(|bar| bar.label.chars().count()).max();
    let mut text = String::new();
    for bar in bars {
        let mut line = [' '; WIDTH];
        let [from, to] = bar.ends.map(place);
        line[from..=to].fill('─');
        line[place(0.0)] = if (from..=to).contains(&place(0.0)) {
            '┼'
        } else {
            '│'
        };
        line[from] = '├';
        line[to] = '┤';
        line[place(bar.value)] = '●';
        let line: String = line.iter().collect();
        let padding = " ".repeat(longest.unwrap_or(0) - bar.label.chars().count());
        text.push_str(&format!("  {}{padding}  {line}  {}\n", bar.label, bar.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_share_a_scale_with_0_on_it() {
        let bar = |label: &str, ends: [f64; 2]| Bar {
            label: label.to_owned(),
            value: (ends[0] + ends[1]) / 2.0,
            ends,
            text: "+1 %".to_owned(),
        };
        let text = draw(&[bar("a", [0.1, 0.3]), bar("bb", [-0.1, 0.1])]);
        let lines: Vec<&str> = text.lines().collect();
        let column = |line: &str, sign: char| line.chars().position(|c| c == sign).unwrap();
        assert_eq!(column(lines[0], '│'), column(lines[1], '●'), "{text}");
        assert_eq!(column(lines[0], '├'), column(lines[1], '┤'), "{text}");
        assert!(lines.iter().all(|line| line.ends_with("+1 %")));
        assert_eq!(draw(&[]), "");
        assert_eq!(draw(&[bar("flat", [0.0, 0.0])]), "");
    }
}
