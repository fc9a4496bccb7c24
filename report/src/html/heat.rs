//! The map: a row for each source, a column for each destination.
//!
//! A cell is the worst of the paths between two nodes. Shade, sign and border say the same thing, so that it reads in grey; up to 24
//! nodes each cell carries its number too, in a table of its own for each view. Larger fleets get one table of small cells,
//! whose views are switched by style alone.

use std::collections::{BTreeSet, HashMap};

use maud::{Markup, PreEscaped, html};
use railgauge_core::finding::{Effect, Finding};
use railgauge_core::quantile::Quantile;

use super::level::{Level, fleet_median, series_of};
use super::reading::Reading;
use crate::doc::PathDoc;
use crate::number::{in_unit_of, latency, percent};

/// Nodes up to which cells carry numbers.
const WITH_NUMBERS: usize = 24;

/// Nodes shown at most.
const MOST_NODES: usize = 256;

/// What a map shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A quantile of a series, by its name in the document.
    Latency(&'static str, Quantile),
    /// The share of probes lost.
    Loss,
}

impl View {
    fn label(self) -> String {
        match self {
            Self::Latency(series, quantile) => format!("{} {quantile}", words(series)),
            Self::Loss => "loss".to_owned(),
        }
    }

    fn title(self) -> String {
        match self {
            Self::Latency(series, quantile) => format!("{quantile} of {}", words(series)),
            Self::Loss => "Share of probes lost".to_owned(),
        }
    }
}

/// The view in which the worst finding shows best: the one of its series, p99 where there is a choice. Without one, p99 of network
/// RTT, or what is first.
pub fn telling_view(views: &[View], findings: &[&Finding]) -> usize {
    let wanted = match findings.first().map(|finding| &finding.effect) {
        Some(Effect::Latency { series, .. }) => series.as_str(),
        _ => "network_rtt",
    };
    let of = |view: &View| matches!(view, View::Latency(name, _) if *name == wanted);
    let p99 = |view: &View| matches!(view, View::Latency(_, Quantile::P99));
    let both = views.iter().position(|view| of(view) && p99(view));
    both.or_else(|| views.iter().position(of)).unwrap_or(0)
}

/// A series' name as people write it.
pub fn words(series: &str) -> String {
    series.replace('_', " ").replace("rtt", "RTT")
}

/// One cell of one view.
#[derive(Clone, Debug)]
struct Cell {
    level: Level,
    /// What orders cells of one level: nanoseconds, or millionths lost.
    size: u64,
    number: String,
    long: String,
}

impl Cell {
    /// Of two paths between the same nodes the worse; that nothing is known of the other stays to be seen.
    fn beside(mut self, other: &Self) -> Self {
        let is_known = |level| !matches!(level, Level::Missing | Level::Withheld);
        if !is_known(other.level) && is_known(self.level) && !self.number.ends_with('?') {
            self.number.push('?');
            self.long += ", another path between them: ";
            self.long += &other.long;
        } else if other.number.ends_with('?')
            && is_known(other.level)
            && !self.number.ends_with('?')
        {
            self.number.push('?');
            self.long += ", another path between them: not known";
        }
        self
    }
}

/// All cells of one view: by row and column.
struct Grid {
    view: View,
    cells: HashMap<(usize, usize), Cell>,
    /// The unit of the numbers, and the median that shades refer to.
    unit: &'static str,
    median_ns: Option<u64>,
}

/// The map of `paths` over `nodes`, in that order; `id` tells it from other maps of the page. With several views there are switches
/// above it, of which `shown` is on.
pub fn heat_map(
    paths: &[PathDoc],
    nodes: &[String],
    views: &[View],
    shown: usize,
    id: &str,
) -> Markup {
    let all = ordered(paths, nodes);
    let worst = chosen(paths, &all);
    let names = worst.as_deref().unwrap_or(&all);
    if names.is_empty() {
        return html! { p.empty { "No node, so no map." } };
    }
    let index: HashMap<&str, usize> =
        names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let grids: Vec<Grid> = views.iter().map(|view| grid(paths, *view, &index)).collect();
    let small = names.len() > WITH_NUMBERS;
    html! {
        @if worst.is_some() {
            p.note { "Of " (all.len()) " nodes the " (names.len()) " with the worst paths are shown." }
        }
        div.views id=(id) {
            @if grids.len() > 1 { @for (at, grid) in grids.iter().enumerate() {
                input.{ "t" (at) } type="radio" name=(id) id={ (id) "-" (at) } checked[at == shown];
                label for={ (id) "-" (at) } { (grid.view.label()) }
            } }
            @if small {
                (switches(grids.len(), id))
                @for (at, grid) in grids.iter().enumerate() {
                    div.{ @if grids.len() > 1 { "view p" (at) } } { (legend(grid)) }
                }
                (small_table(names, &grids))
            } @else {
                @for (at, grid) in grids.iter().enumerate() {
                    div.{ @if grids.len() > 1 { "view p" (at) } } { (table(names, grid)) (legend(grid)) }
                }
            }
        }
    }
}

/// The nodes of the list, then those that only paths name.
fn ordered<'a>(paths: &'a [PathDoc], nodes: &'a [String]) -> Vec<&'a str> {
    let listed: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
    let more: BTreeSet<&str> = paths
        .iter()
        .flat_map(|path| [path.src_node.as_str(), path.dst_node.as_str()])
        .filter(|name| !listed.contains(name))
        .collect();
    nodes.iter().map(String::as_str).chain(more).collect()
}

/// The nodes to show where they are too many: those whose paths are worst, in their order.
fn chosen<'a>(paths: &[PathDoc], all: &[&'a str]) -> Option<Vec<&'a str>> {
    if all.len() <= MOST_NODES {
        return None;
    }
    let mut worst: HashMap<&str, (u64, u64)> = HashMap::new();
    for path in paths {
        let counts = &path.measures.counts;
        let p99 = Reading::of(path.measures.rtt(), Quantile::P99).reached_ns().unwrap_or(0);
        let size = (counts.lost, p99);
        for node in [&path.src_node, &path.dst_node] {
            let known = worst.entry(node).or_default();
            *known = (*known).max(size);
        }
    }
    let mut by_size: Vec<&str> = all.to_vec();
    by_size.sort_by_key(|name| std::cmp::Reverse(worst.get(name).copied().unwrap_or_default()));
    let kept: BTreeSet<&str> = by_size.into_iter().take(MOST_NODES).collect();
    Some(all.iter().copied().filter(|name| kept.contains(name)).collect())
}

fn grid(paths: &[PathDoc], view: View, index: &HashMap<&str, usize>) -> Grid {
    let median_ns = match view {
        View::Latency(series, quantile) => fleet_median(paths, quantile, series),
        View::Loss => None,
    };
    let scale = median_ns.unwrap_or(1_000);
    let mut cells: HashMap<(usize, usize), Cell> = HashMap::new();
    for path in paths {
        let ends = (index.get(path.src_node.as_str()), index.get(path.dst_node.as_str()));
        let (Some(&row), Some(&column)) = ends else { continue };
        let new = cell(path, view, scale);
        let cell = match cells.remove(&(row, column)) {
            None => new,
            Some(known) if (known.level, known.size) >= (new.level, new.size) => known.beside(&new),
            Some(known) => new.beside(&known),
        };
        cells.insert((row, column), cell);
    }
    let unit = in_unit_of(scale, scale).1;
    Grid { view, cells, unit, median_ns }
}

fn cell(path: &PathDoc, view: View, scale: u64) -> Cell {
    let counts = &path.measures.counts;
    let of = |level, size, number: String, long: String| Cell { level, size, number, long };
    if counts.is_silent() {
        return of(Level::Silent, 0, "x".to_owned(), "no reply".to_owned());
    }
    if counts.received == 0 {
        return of(Level::Missing, 0, "?".to_owned(), "not measured".to_owned());
    }
    match view {
        View::Latency(series, quantile) => {
            let reading = Reading::of(series_of(path, series), quantile);
            let number = match reading {
                Reading::Value { value_ns, .. } => in_unit(scale, value_ns),
                // The time-out is far off in any unit but its own.
                Reading::AtLeast(_) => reading.short(),
                Reading::Withheld => "-".to_owned(),
            };
            let level = Level::of_latency(reading, scale);
            of(level, reading.reached_ns().unwrap_or(0), number, reading.short())
        }
        View::Loss => {
            let share = counts.loss().unwrap_or(0.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share, in millionths"
            )]
            let size = (share * 1e6) as u64;
            let text = percent(share);
            let number = text.trim_end_matches(" %").to_owned();
            of(Level::of_loss(share), size, number, text)
        }
    }
}

/// In the map's unit, or where that takes too many digits in its own, with its name.
fn in_unit(scale: u64, ns: u64) -> String {
    let number = in_unit_of(scale, ns).0;
    if number.len() > 4 { latency(ns) } else { number }
}

fn table(names: &[&str], grid: &Grid) -> Markup {
    let unit = match grid.view {
        View::Latency(..) => grid.unit,
        View::Loss => "%",
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label={ (grid.view.title()) " by source and destination" } {
            table.heat {
                caption { (grid.view.title()) ", " (unit) ". Rows send, columns answer." }
                thead { tr {
                    td.corner { "from" span.to { "to" } }
                    @for name in names { th scope="col" title=(name) { span { (name) } } }
                } }
                tbody {
                    @for (row, name) in names.iter().enumerate() { tr {
                        th scope="row" title=(name) { span { (name) } }
                        @for column in 0..names.len() { (number_cell(grid, row, column, names)) }
                    } }
                }
            }
        }
    }
}

fn number_cell(grid: &Grid, row: usize, column: usize, names: &[&str]) -> Markup {
    match grid.cells.get(&(row, column)) {
        None if row == column => html! { td.self { span.unseen { "itself" } } },
        None => {
            html! { td.l7 title={ (names[row]) " > " (names[column]) ": not measured" } { "?" } }
        }
        Some(cell) => html! {
            td.{ "l" (cell.level.index()) }
                title={ (names[row]) " > " (names[column]) ": " (cell.long) } { (cell.number) }
        },
    }
}

/// One table for all views: each cell has a class for each, `a0` to `a7` for the first, and so on.
fn small_table(names: &[&str], grids: &[Grid]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Map by source and destination" {
            table.heat.small {
                caption { "Rows send, columns answer; names and numbers of a cell are in its tooltip." }
                @for (row, from) in names.iter().enumerate() { tr {
                    th scope="row" title=(from) { span { (from) } }
                    @for (column, to) in names.iter().enumerate() { (small_cell(grids, (row, column), from, to)) }
                } }
            }
        }
    }
}

fn small_cell(grids: &[Grid], at: (usize, usize), from: &str, to: &str) -> Markup {
    let cells: Vec<Option<&Cell>> = grids.iter().map(|grid| grid.cells.get(&at)).collect();
    if at.0 == at.1 && cells.iter().all(Option::is_none) {
        return html! { td.self {} };
    }
    let mut class = String::new();
    let mut title = format!("{from} > {to}");
    let mut told = false;
    for ((cell, grid), letter) in cells.iter().zip(grids).zip('a'..) {
        let level = cell.map_or(Level::Missing, |cell| cell.level);
        // The usual is what a cell without a class looks like: most of a large page is that.
        if level != Level::Step(0) {
            class.push(letter);
            class += &level.index().to_string();
            class.push(' ');
        }
        if let Some(cell) = cell {
            title += &format!("; {} {}", grid.view.label(), cell.long);
        }
        told |= level != Level::Step(0) || matches!(grid.view, View::Latency(..));
    }
    let class = Some(class.trim_end()).filter(|class| !class.is_empty());
    html! { td class=[class] title=[told.then_some(title)] {} }
}

/// Rules that shade the small cells by the view that is on. `id` and the count are ours, not the document's.
fn switches(views: usize, id: &str) -> Markup {
    let mut style = String::new();
    for (view, letter) in (0..views).zip('a'..) {
        let on =
            if views > 1 { format!("#{id}>.t{view}:checked~.scroll ") } else { format!("#{id} ") };
        for level in 1..8 {
            style += &format!("{on}.{letter}{level}{{background:var(--b{level})}}");
        }
        style += &format!("{on}.{letter}3,{on}.{letter}4,{on}.{letter}5{{outline:1px solid #111}}");
    }
    html! { style { (PreEscaped(style)) } }
}

fn legend(grid: &Grid) -> Markup {
    let steps: Vec<(u8, String)> = match grid.view {
        View::Latency(..) => {
            let [a, b, c] = ["under 1.5", "1.5 to 2", "2 to 3"].map(|t| format!("{t} x median"));
            vec![(0, a), (1, b), (2, c), (3, "3 to 10 x".into()), (4, "10 x and more".into())]
        }
        View::Loss => ["none", "to 0.1 %", "to 1 %", "to 10 %", "more"]
            .into_iter()
            .zip(0..)
            .map(|(text, step)| (step, text.to_owned()))
            .collect(),
    };
    let (unit, median) = (grid.unit, grid.median_ns.map(|ns| in_unit_of(ns, ns).0));
    html! {
        p.legend {
            @if let Some(median) = median { span { "fleet median " b { (median) (unit) } } }
            @for (step, text) in steps { span { i.{ "l" (step) } {} (text) } }
            span { i.l5 { "x" } "no reply" }
            @if matches!(grid.view, View::Latency(..)) { span { i.l6 { "-" } "too few samples" } }
            span { i.l7 { "?" } "not measured" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_not_measured_does_not_hide_behind_another() {
        let cell = |level, size, number: &str| Cell {
            level,
            size,
            number: number.to_owned(),
            long: number.to_owned(),
        };
        let good = cell(Level::Step(0), 40, "40");
        let worse = cell(Level::Step(1), 60, "60");
        let missing = cell(Level::Missing, 0, "?");
        assert_eq!(good.clone().beside(&missing).number, "40?");
        assert_eq!(worse.clone().beside(&good.clone().beside(&missing)).number, "60?");
        assert_eq!(worse.beside(&good).number, "60");
        assert_eq!(missing.clone().beside(&missing).number, "?");
    }
}
