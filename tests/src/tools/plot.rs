//! Plots over time as SVG: lines, areas and dots with axes, a legend and units. The colours follow
//! the reader's light or dark screen.
//!
//! A plot is one element and loads nothing: no script, font, style sheet or picture. Reports
//! include plots in their pages. No test decides by a plot, so floats are allowed here.

#![expect(clippy::float_arithmetic, reason = "a picture is read by people, and decides nothing")]

use std::fmt::Write;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 230.0;
/// Edges of the area between the axes.
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = HEIGHT - 30.0;
/// Approximate width of a letter in the legend.
const LETTER: f64 = 6.6;
/// Number of colours. Further series repeat them.
const COLOURS: usize = 4;

const STYLE: &str = "\
.plot{font:12px system-ui,sans-serif;--ink:#1c2430;--soft:#5d6b7e;--grid:#e3e8ef;--band:#f59e0b14;\
--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#9333ea}\
@media(prefers-color-scheme:dark){.plot{--ink:#e6ebf2;--soft:#93a1b5;--grid:#2b3442;--band:#fbbf2412;\
--c0:#6ea8fe;--c1:#fbbf24;--c2:#34d399;--c3:#c792ff}}\
.plot text{fill:var(--soft)}.plot .title{fill:var(--ink);font-size:14px;font-weight:600}\
.plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--soft)}.plot .band{fill:var(--band)}\
.plot .mark{stroke:var(--soft);stroke-dasharray:3 3}.plot .line{fill:none;stroke-width:2;stroke-linejoin:round}\
.plot .area{opacity:.16}.plot .hover{opacity:0}\
.plot .s0{stroke:var(--c0)}.plot .s1{stroke:var(--c1)}.plot .s2{stroke:var(--c2)}.plot .s3{stroke:var(--c3)}\
.plot .f0{fill:var(--c0)}.plot .f1{fill:var(--c1)}.plot .f2{fill:var(--c2)}.plot .f3{fill:var(--c3)}";

/// A plot of one or more series.
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// Title of the plot.
    pub title: String,
    /// Unit of the vertical axis.
    pub unit: String,
    /// Unit of the horizontal axis.
    pub x_unit: String,
    /// Scale of the vertical axis.
    pub scale: Scale,
    /// The series; each has its own colour.
    pub series: Vec<Series>,
    /// Lower limit for the end of the horizontal axis, so that several plots of one run are
    /// aligned.
    pub until: f64,
    /// A moment and its name. The plot is shaded from this moment on.
    pub from: Option<(f64, String)>,
}

/// Scale of the vertical axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Linear, from zero.
    #[default]
    Linear,
    /// Logarithmic. Values that are not above zero are left out.
    Logarithmic,
}

/// One quantity over time.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name of the series in the legend.
    pub name: String,
    /// Shape of the series.
    pub shape: Shape,
    /// Points in the order of time. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Shape of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A line.
    Line,
    /// A line, with colour down to the axis.
    Area,
    /// A dot for each point.
    Dots,
}

/// Escapes a text for use between tags and in attributes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML allows most control characters in no form, not even escaped.
            letter if letter.is_control() && letter != '\n' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Formats a number for a report, with the decimals that its step needs, and commas between
/// thousands.
#[must_use]
pub fn number(value: f64, step: f64) -> String {
    let decimals = if step >= 1.0 { 0.0 } else { (-step.log10()).ceil().clamp(0.0, 6.0) };
    let text = format!("{value:.0$}", decimals as usize);
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

impl Plot {
    /// Returns the plot as one `<svg>` element.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
             <title>{title}</title><style>{STYLE}</style>\
             <text class=\"title\" x=\"8\" y=\"18\">{title}</text><text x=\"8\" y=\"36\">{unit}</text>",
            title = escaped(&self.title),
            unit = escaped(&self.unit),
        );
        self.legend(&mut svg);
        match Axes::of(self) {
            Some(axes) => {
                self.frame(&mut svg, &axes);
                for (index, series) in self.series.iter().enumerate() {
                    self.draw(&mut svg, &axes, series, index % COLOURS);
                }
            }
            None => text(&mut svg, WIDTH / 2.0, HEIGHT / 2.0, "middle", "nothing to show"),
        }
        svg.push_str("</svg>");
        svg
    }

    /// Writes the legend from the right: a square of each colour, and the name.
    fn legend(&self, svg: &mut String) {
        let mut x = RIGHT;
        for (index, series) in self.series.iter().enumerate().rev() {
            x -= series.name.chars().count() as f64 * LETTER;
            text(svg, x, 18.0, "start", &series.name);
            x -= 15.0;
            let colour = index % COLOURS;
            put(
                svg,
                &format!(
                    "<rect class=\"f{colour}\" x=\"{x:.1}\" y=\"9\" width=\"10\" height=\"10\" rx=\"2\"/>"
                ),
            );
            x -= 14.0;
        }
    }

    /// Writes the background: the shaded part, the grid, both axes and their numbers.
    fn frame(&self, svg: &mut String, axes: &Axes) {
        if let Some((from, name)) = self.from.as_ref().filter(|(from, _)| axes.x.has(*from)) {
            let x = axes.across(*from);
            let (width, height) = (RIGHT - x, BOTTOM - TOP);
            put(
                svg,
                &format!(
                    "<rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>\
                     <line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>"
                ),
            );
            text(svg, x + 5.0, TOP + 12.0, "start", name);
        }
        for (value, name) in axes.y.ticks() {
            let y = axes.up(value);
            put(
                svg,
                &format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"),
            );
            text(svg, LEFT - 7.0, y + 4.0, "end", &name);
        }
        put(
            svg,
            &format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>"),
        );
        let ticks = axes.x.ticks();
        let last = ticks.len().saturating_sub(1);
        for (index, (value, name)) in ticks.into_iter().enumerate() {
            let x = axes.across(value);
            let name = if index == last { format!("{name} {}", self.x_unit) } else { name };
            let anchor = if x > RIGHT - 20.0 { "end" } else { "middle" };
            put(
                svg,
                &format!(
                    "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{}\"/>",
                    BOTTOM + 4.0
                ),
            );
            text(svg, if anchor == "end" { RIGHT } else { x }, BOTTOM + 18.0, anchor, &name);
        }
    }

    fn draw(&self, svg: &mut String, axes: &Axes, series: &Series, colour: usize) {
        let points: Vec<_> = axes.shown(&series.points).collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let (letter, x, y) = (if index == 0 { 'M' } else { 'L' }, axes.across(*x), axes.up(*y));
            put(&mut path, &format!("{letter}{x:.1} {y:.1}"));
        }
        if series.shape == Shape::Area {
            let (left, right) = (axes.across(first.0), axes.across(last.0));
            put(
                svg,
                &format!(
                    "<path class=\"area f{colour}\" d=\"{path}L{right:.1} {BOTTOM}L{left:.1} {BOTTOM}Z\"/>"
                ),
            );
        }
        if series.shape != Shape::Dots {
            put(svg, &format!("<path class=\"line s{colour}\" d=\"{path}\"/>"));
        }
        for (x, y) in points {
            let said = format!(
                "{} {}: {} {}",
                number(x, axes.x.step / 10.0),
                self.x_unit,
                series.name,
                number(y, if self.scale == Scale::Linear { axes.y.step / 10.0 } else { y / 100.0 })
            );
            let (class, radius) = if series.shape == Shape::Dots {
                (format!("f{colour}"), 2.5)
            } else {
                ("hover".to_owned(), 6.0)
            };
            let (x, y) = (axes.across(x), axes.up(y));
            put(
                svg,
                &format!(
                    "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{}</title></circle>",
                    escaped(&said)
                ),
            );
        }
    }
}

/// Both axes of a plot.
struct Axes {
    x: Axis,
    y: Axis,
}

/// Range and steps of an axis. On a logarithmic scale they are in decades.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    scale: Scale,
}

impl Axes {
    /// Makes axes that contain every point. Returns [`None`] if there is no point.
    fn of(plot: &Plot) -> Option<Axes> {
        let all = plot.series.iter().flat_map(|series| &series.points);
        let all = all.filter(|(x, y)| x.is_finite() && y.is_finite());
        let shown = all.filter(|(_, y)| plot.scale == Scale::Linear || *y > 0.0);
        let mut spans = None;
        for (x, y) in shown {
            let (x_span, y_span) = spans.get_or_insert(((*x, *x), (*y, *y)));
            *x_span = (x_span.0.min(*x), x_span.1.max(*x));
            *y_span = (y_span.0.min(*y), y_span.1.max(*y));
        }
        let (x, y) = spans?;
        let y = match plot.scale {
            Scale::Linear => Axis::linear(y.0.min(0.0), y.1, 4.0, true),
            Scale::Logarithmic => Axis::logarithmic(y.0, y.1),
        };
        Some(Axes { x: Axis::linear(x.0.min(0.0), x.1.max(plot.until), 10.0, false), y })
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.share(x) * (RIGHT - LEFT)
    }

    fn up(&self, y: f64) -> f64 {
        BOTTOM - self.y.share(y) * (BOTTOM - TOP)
    }

    fn shown<'a>(&self, points: &'a [(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + use<'a> {
        let logarithmic = self.y.scale == Scale::Logarithmic;
        let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        points.iter().copied().filter(finite).filter(move |(_, y)| !logarithmic || *y > 0.0)
    }
}

impl Axis {
    /// Makes an axis of about `ticks` steps, each 1, 2 or 5 times a power of ten. If `rounded`, the
    /// axis ends at a whole step.
    fn linear(low: f64, high: f64, ticks: f64, rounded: bool) -> Axis {
        let span = if high > low { high - low } else { 1.0 };
        let rough = span / ticks;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
        let end = if rounded { ((low + span) / step - 1e-9).ceil() * step } else { low + span };
        Axis { low, high: end, step, scale: Scale::Linear }
    }

    /// Makes an axis of whole decades.
    fn logarithmic(low: f64, high: f64) -> Axis {
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Axis { low, high: if high > low { high } else { low + 1.0 }, step: 1.0, scale: Scale::Logarithmic }
    }

    /// Returns the position of a value on the axis, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    fn has(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Returns the values at the ticks, with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        let mut place = (self.low / self.step).ceil() * self.step;
        while place <= self.high + self.step * 1e-6 {
            let value = if self.scale == Scale::Logarithmic { 10_f64.powf(place) } else { place };
            let step = if self.scale == Scale::Logarithmic { value } else { self.step };
            ticks.push((value, number(value, step)));
            place += self.step;
        }
        ticks
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    put(svg, &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(what)));
}

fn put(svg: &mut String, what: &str) {
    // Writing to a string cannot fail.
    let _written = svg.write_str(what);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Checks the rules of XML that a careless format string breaks: tags are closed in order,
    /// attributes are quoted, and nothing is unescaped.
    pub(crate) fn well_formed(text: &str) -> Result<(), String> {
        let mut open = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            check_text(&rest[..start])?;
            let end = rest.find('>').ok_or("a tag has no end")?;
            let tag = rest.get(start + 1..end).ok_or("a > stands unescaped")?;
            rest = &rest[end + 1..];
            if tag.starts_with('!') {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                let opened = open.pop();
                if opened != Some(name) {
                    return Err(format!("</{name}> closes {opened:?}"));
                }
                continue;
            }
            let (body, closed) = tag.strip_suffix('/').map_or((tag, false), |body| (body, true));
            let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
            let quoted: Vec<_> = attributes.split('"').collect();
            if quoted.len() % 2 == 0 || quoted.iter().step_by(2).any(|part| part.contains(['<', '\''])) {
                return Err(format!("<{tag}> has an attribute without its quotes"));
            }
            let (before, after) = quoted.split_at(quoted.len() - 1);
            let named = before.iter().step_by(2).all(|part| part.ends_with('=') && part.trim().len() > 1);
            if !named || !after.iter().all(|part| part.is_empty()) {
                return Err(format!("<{tag}> has an attribute without a name or a value"));
            }
            quoted.iter().skip(1).step_by(2).try_for_each(|value| check_text(value))?;
            if !closed {
                open.push(name);
            }
        }
        check_text(rest)?;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?} are not closed")) }
    }

    fn check_text(text: &str) -> Result<(), String> {
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;"];
        let bare =
            text.match_indices('&').any(|(at, _)| !entities.iter().any(|it| text[at..].starts_with(it)));
        if bare || text.contains('>') { Err(format!("{text:?} is not escaped")) } else { Ok(()) }
    }

    fn series(name: &str, shape: Shape, points: &[(f64, f64)]) -> Series {
        Series { name: name.to_owned(), shape, points: points.to_vec() }
    }

    #[test]
    fn every_plot_is_well_formed_whatever_its_names_and_numbers_are() {
        let nasty = "a<b> & \"c\" </svg>\u{1}".to_owned();
        let lists: [&[(f64, f64)]; 6] = [
            &[],
            &[(0.0, 0.0)],
            &[(0.0, 1e9), (1.0, -3.0), (2.0, f64::NAN), (f64::INFINITY, 1.0)],
            &[(0.0, 0.001), (0.1, 0.002)],
            &[(5.0, 5.0), (5.0, 5.0)],
            &[(0.0, 3.0), (20.0, 3_000.0)],
        ];
        for points in lists {
            for scale in [Scale::Linear, Scale::Logarithmic] {
                for shape in [Shape::Line, Shape::Area, Shape::Dots] {
                    let plot = Plot {
                        title: nasty.clone(),
                        unit: nasty.clone(),
                        x_unit: nasty.clone(),
                        scale,
                        series: vec![series(&nasty, shape, points), series("other", shape, &[])],
                        until: 0.0,
                        from: Some((1.0, nasty.clone())),
                    };
                    let svg = plot.svg();
                    well_formed(&svg).unwrap_or_else(|error| panic!("{error}\n{svg}"));
                    assert!(svg.contains("a&lt;b&gt; &amp; &quot;c&quot; &lt;/svg&gt;\u{fffd}"), "{svg}");
                    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_well_formed_is_found() {
        let wrong = ["<a>", "<a></b>", "<a b=c/>", "a & b", "<a b=\"&\"/>", "a > b", "<a \"b\"/>", "<a"];
        assert!(wrong.iter().all(|text| well_formed(text).is_err()));
        assert_eq!(well_formed("<!DOCTYPE html><a b=\"c\"><d/>&lt;e</a>"), Ok(()));
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let plot = Plot {
            series: vec![series("a", Shape::Line, &[(0.0, 0.0), (10.0, 150.0), (20.0, 200.0)])],
            ..Plot::default()
        };
        let middle = (LEFT + RIGHT) / 2.0;
        let y = BOTTOM - 0.75 * (BOTTOM - TOP);
        let path = format!("M{LEFT:.1} {BOTTOM:.1}L{middle:.1} {y:.1}L{RIGHT:.1} {TOP:.1}");
        let svg = plot.svg();
        assert!(svg.contains(&path), "{path} is not in\n{svg}");
        for tick in ["0", "50", "100", "150", "200"] {
            assert!(svg.contains(&format!("text-anchor=\"end\">{tick}</text>")), "{tick}");
        }
    }

    #[test]
    fn decades_are_equally_high_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic(0.3, 80.0);
        let names: Vec<_> = axis.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["0.1", "1", "10", "100"]);
        assert_eq!(
            [0.1, 1.0, 10.0, 100.0].map(|value| (axis.share(value) * 3.0).round()),
            [0.0, 1.0, 2.0, 3.0]
        );
    }

    #[test]
    fn numbers_have_the_decimals_that_they_need_and_commas() {
        assert_eq!(number(1_234_567.0, 1_000.0), "1,234,567");
        assert_eq!(number(0.25, 0.05), "0.25");
        assert_eq!(number(-1_000.5, 0.5), "-1,000.5");
        assert_eq!(number(999.0, 1.0), "999");
    }
}
