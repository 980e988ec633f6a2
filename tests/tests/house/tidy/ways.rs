//! Checks that the files of an order and of a payment are as `docs/architecture.md` lists them, and
//! within its limits.

use super::read;

/// The title of each list, and the upper limit of its files.
const WAYS: [(&str, usize); 2] = [("An order:", 35), ("A payment:", 25)];

/// A step: its number in the list, its file, and the function to begin in.
type WayStep<'a> = (usize, &'a str, &'a str);

#[test]
fn the_ways_of_order_and_payment_are_as_short_as_listed() {
    let page = read("docs/architecture.md");
    for (title, files_max) in WAYS {
        let steps = steps(&page, title);
        assert!(!steps.is_empty() && steps.len() <= files_max, "{title} {} files", steps.len());
        assert_eq!(offences(&steps, read), Vec::<String>::new(), "{title}");
    }
}

#[test]
fn a_step_that_is_gone_or_stands_twice_is_found() {
    let page = "A way:\n\n1. `a.rs` `go`: goes\n2. `a.rs` `stop`: stops\n4. `b.rs` `go`: goes\n\nAnother:\n";
    let planted = steps(page, "A way:");
    assert_eq!(planted, [(1, "a.rs", "go"), (2, "a.rs", "stop"), (4, "b.rs", "go")]);
    let text = |_: &str| "pub async fn go<V>() {}".to_owned();
    assert_eq!(steps("A way:\n\n1. `a.rs` `go`: goes\n  on\n", "A way:").last(), Some(&(0, "  on", "")));
    let found = ["2: a.rs stands twice", "2: a.rs has no function stop", "4 is the place of step 3"];
    assert_eq!(offences(&planted, text), found);
    assert_eq!(offences(&steps("A way:\n\n1. `a.rs` `go`: goes\n", "A way:"), text), Vec::<String>::new());
}

/// Returns the steps in the list that follows the line `title` of a page. A line that is not a step
/// gets the place 0.
fn steps<'a>(page: &'a str, title: &str) -> Vec<WayStep<'a>> {
    let list = page.split_once(&format!("{title}\n\n")).map_or("", |(_, rest)| rest);
    let step = |line: &'a str| {
        let (place, rest) = line.split_once(". ")?;
        let mut quoted = rest.split('`').skip(1).step_by(2);
        Some((place.parse().ok()?, quoted.next()?, quoted.next()?))
    };
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines.map(|line| step(line).unwrap_or((0, line, ""))).collect()
}

fn offences(steps: &[WayStep<'_>], text_of: impl Fn(&str) -> String) -> Vec<String> {
    let mut offences = Vec::new();
    for ((place, file, function), number) in steps.iter().zip(1..) {
        if steps[..number - 1].iter().any(|(_, earlier, _)| earlier == file) {
            offences.push(format!("{place}: {file} stands twice"));
        }
        let text = text_of(file);
        if !['(', '<'].iter().any(|behind| text.contains(&format!("fn {function}{behind}"))) {
            offences.push(format!("{place}: {file} has no function {function}"));
        }
        if *place != number {
            offences.push(format!("{place} is the place of step {number}"));
        }
    }
    offences
}
