//! Percentile curves: how long the tail is, at a glance.
//!
//! A curve is drawn solid as far as its samples carry a 95 % interval, which for a share q of n independent samples exists up to
//! q^n = 2.5 %; beyond it is dashed: seen, but not to be relied on. It ends in an arrow where time-outs begin.

use maud::{Markup, html};
use railgauge_core::histogram::{SparseCounts, layout};
use railgauge_core::json::LatencySeries;

use super::chart::{Plane, f};
use crate::doc::PathDoc;
use crate::number::{count, percent};

/// Panels at most: what a person looks through, and what keeps the page small.
const MOST_PANELS: usize = 9;

/// Units of the drawing between two points of a curve: less is not seen.
const STEP: f64 = 0.7;

/// All replies of a series, as counted.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the drawing.
    pub name: String,
    counts: SparseCounts,
    max_ns: u64,
    /// Replies, in range or above it.
    replies: u64,
    /// Replies and time-outs.
    samples: u64,
}

impl Curve {
    /// Of a series; `None` where its histogram does not decode or is empty.
    pub fn of(name: &str, series: &LatencySeries) -> Option<Self> {
        let counts = SparseCounts::from_base64(&series.hdr_v2).ok()?;
        let replies = counts.total().saturating_add(series.overflow);
        let samples = replies.saturating_add(series.censored.count);
        let max_ns = series.max_ns?;
        (counts.total() > 0).then(|| Self {
            name: name.to_owned(),
            counts,
            max_ns,
            replies,
            samples,
        })
    }

    /// All of them in one: exact. Those with stamps from other places than most are left out; `None` without any, and where the
    /// histograms of some are left out of the document, since those that are left are the ill ones.
    pub fn merged<'a>(
        name: &str,
        series: impl Iterator<Item = &'a LatencySeries> + Clone,
    ) -> Option<Self> {
        let mut kinds: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for one in series.clone() {
            *kinds.entry(&one.timestamp_source).or_default() += one.count;
        }
        let kind = kinds.into_iter().max_by_key(|(_, replies)| *replies)?.0;
        let of_kind = series.filter(|one| one.timestamp_source == kind);
        if of_kind.clone().any(|one| one.count > 0 && one.hdr_v2.is_empty()) {
            return None;
        }
        of_kind.filter_map(|one| Self::of(name, one)).reduce(|mut whole, one| {
            whole.counts.merge(&one.counts);
            whole.max_ns = whole.max_ns.max(one.max_ns);
            whole.replies = whole.replies.saturating_add(one.replies);
            whole.samples = whole.samples.saturating_add(one.samples);
            whole
        })
    }

    /// 1/(1-p) up to which quantiles have an interval: p = 0.025^(1/n).
    fn limit(&self) -> f64 {
        let p = 0.025f64.powf(1.0 / number(self.samples));
        1.0 / (1.0 - p).max(1e-15)
    }

    fn lowest_ns(&self) -> f64 {
        let first =
            self.counts.entries().first().map_or(1, |entry| layout::lowest_equivalent(entry.0));
        number(first.max(1))
    }

    /// Steps of the curve: from, to (both 1/(1-p)), and nanoseconds.
    fn steps(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let n = number(self.samples);
        let (mut seen, mut from) = (0u64, 1.0);
        self.counts.entries().iter().map(move |&(index, samples)| {
            seen = seen.saturating_add(samples);
            let value = layout::highest_equivalent(index).min(self.max_ns);
            // The last sample is drawn to 1 - 1/n; all of it would be at infinity.
            let to = n / (n - number(seen)).max(1.0);
            let step = (from, to, number(value.max(1)));
            from = to;
            step
        })
    }

    /// Path data of the part that can be relied on, and of the rest.
    fn outline(&self, plane: &Plane) -> (String, String) {
        let mut parts = [String::new(), String::new()];
        let limit = self.limit();
        let mut last = (plane.left, None::<f64>);
        let mut part = 0;
        for (_, to, ns) in self.steps() {
            let (x, y) = (plane.x(to), plane.y(ns));
            let edge = plane.x(limit);
            if last.1.is_some() && x - last.0 < STEP && part == usize::from(to > limit) {
                continue;
            }
            let old = last.1.unwrap_or(y);
            draw(&mut parts[part], last.0, old, &format!("V{}", f(y)));
            if to > limit && part == 0 {
                draw(&mut parts[0], last.0, y, &format!("H{}", f(edge.max(last.0))));
                part = 1;
                last.0 = edge.max(last.0);
            }
            draw(&mut parts[part], last.0, y, &format!("H{}", f(x)));
            last = (x, Some(y));
        }
        let [solid, dashed] = parts;
        (solid, dashed)
    }

    /// Where it ends.
    fn end(&self) -> (f64, f64) {
        let n = number(self.samples);
        let ns = self
            .counts
            .entries()
            .last()
            .map_or(1, |e| layout::highest_equivalent(e.0).min(self.max_ns));
        (n / (n - number(self.counts.total())).max(1.0), number(ns.max(1)))
    }

    fn draw(&self, plane: &Plane, class: &str) -> Markup {
        let (solid, dashed) = self.outline(plane);
        let (x, y) = (plane.x(self.end().0), plane.y(self.end().1));
        html! {
            g class=(class) {
                @if !solid.is_empty() { path d=(solid) {} }
                @if !dashed.is_empty() { path.rest d=(dashed) {} }
                // Time-outs go on above everything drawn.
                @if self.samples > self.replies {
                    path.out d={ "M" (f(x)) " " (f(y)) "V" (f(plane.ceiling() + 2.0)) "m-4 6l4-6l4 6" } {}
                }
            }
        }
    }
}

fn draw(data: &mut String, x: f64, y: f64, step: &str) {
    if data.is_empty() {
        *data = format!("M{} {}", f(x), f(y));
    }
    *data += step;
}

#[expect(clippy::cast_precision_loss, reason = "drawn to a tenth of a unit")]
const fn number(whole: u64) -> f64 {
    whole as f64
}

fn plane(curves: &[&Curve], width: f64, height: f64, right: f64) -> Plane {
    let fold = |start, pick: fn(&Curve) -> f64, choose: fn(f64, f64) -> f64| {
        curves.iter().map(|curve| pick(curve)).fold(start, choose)
    };
    let low = fold(f64::MAX, Curve::lowest_ns, f64::min);
    let high = fold(1.0, |curve| curve.end().1, f64::max);
    let most = fold(100.0, |curve| number(curve.samples), f64::max);
    // Never less than from one 1-2-5 step to the next but one.
    let (low, high) = (low * 0.85, (high * 1.2).max(low * 4.0));
    Plane { width, height, left: 52.0, right, most, low_ns: low, high_ns: high }
}

const ACROSS: &str = "share of samples at or under, scale 1/(1-p)";

/// Several curves in one drawing, each named at its end.
pub fn curves(title: &str, curves: &[Curve]) -> Markup {
    if curves.is_empty() {
        return html! { p.empty { "No replies, or not the histograms of all, so no curve." } };
    }
    let all: Vec<&Curve> = curves.iter().collect();
    let plane = plane(&all, 760.0, 330.0, 132.0);
    let mut ends: Vec<(usize, f64)> =
        curves.iter().enumerate().map(|(at, curve)| (at, plane.y(curve.end().1))).collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut least = plane.ceiling() + 4.0;
    let mut labels: Vec<(usize, f64)> = Vec::new();
    for (at, y) in ends {
        let y = y.max(least);
        least = y + 15.0;
        labels.push((at, y));
    }
    let over = (least - 15.0 - plane.floor()).max(0.0);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            svg.wide viewBox={ "0 0 " (plane.width) " " (plane.height) } role="img" aria-label=(described(title, curves)) {
                (plane.axes(ACROSS))
                @for (at, curve) in curves.iter().enumerate() { (curve.draw(&plane, &format!("c{}", at % 4))) }
                g.names { @for (at, y) in labels {
                    line.{ "k" (at % 4) } x1=(f(plane.right_edge() + 6.0)) x2=(f(plane.right_edge() + 22.0))
                        y1=(f(y - over)) y2=(f(y - over)) {}
                    text x=(f(plane.right_edge() + 27.0)) y=(f(y - over + 4.0)) { (curves[at].name) }
                } }
            }
        }
    }
}

fn described(title: &str, curves: &[Curve]) -> String {
    let each = |curve: &Curve| format!("{}: {} samples", curve.name, count(curve.samples));
    format!("{title}. {}", curves.iter().map(each).collect::<Vec<_>>().join("; "))
}

/// The fleet's four series, all paths merged.
pub fn fleet_curves(paths: &[PathDoc]) -> Vec<Curve> {
    [
        ("app RTT", "app_rtt"),
        ("network RTT", "network_rtt"),
        ("prober delay", "prober_delay"),
        ("responder delay", "responder_delay"),
    ]
    .into_iter()
    .filter_map(|(name, field)| {
        Curve::merged(name, paths.iter().filter_map(move |path| path.measures.series(field)))
    })
    .collect()
}

/// A small drawing for each of some paths, all on the same scales: its RTT over the fleet's.
pub fn path_panels(paths: &[&PathDoc], fleet: &[Curve]) -> Markup {
    let fleet = fleet.iter().find(|c| c.name == "network RTT").or_else(|| fleet.first());
    let panels: Vec<(&PathDoc, Vec<Curve>)> = paths
        .iter()
        .filter_map(|path| {
            let m = &path.measures;
            let app = m.app_rtt.as_ref().and_then(|series| Curve::of("app RTT", series));
            let network =
                m.network_rtt.as_ref().and_then(|series| Curve::of("network RTT", series));
            let curves: Vec<Curve> = network.into_iter().chain(app).collect();
            (!curves.is_empty()).then_some((*path, curves))
        })
        .take(MOST_PANELS)
        .collect();
    if panels.is_empty() {
        return html! {};
    }
    let all: Vec<&Curve> = panels.iter().flat_map(|(_, curves)| curves).chain(fleet).collect();
    let plane = plane(&all, 340.0, 200.0, 22.0);
    html! {
        p.legend {
            span { (key("c1")) "network RTT of the path" }
            span { (key("c0")) "app RTT of the path" }
            @if fleet.is_some() { span { (key("fleet")) "network RTT of the fleet" } }
        }
        div.panels { @for (path, curves) in &panels {
            figure {
                figcaption {
                    b { (path.src) " > " (path.dst) }
                    " " span.quiet { (path.verdict.as_str())
                        @if let Some(loss) = path.measures.counts.loss().filter(|loss| *loss > 0.0) {
                            ", loss " (percent(loss))
                        }
                    }
                }
                svg viewBox={ "0 0 " (plane.width) " " (plane.height) } role="img"
                    aria-label=(described(&path.name(), curves)) {
                    (plane.axes(""))
                    @if let Some(fleet) = fleet { (fleet.draw(&plane, "fleet")) }
                    @for curve in curves {
                        (curve.draw(&plane, if curve.name == "app RTT" { "c0" } else { "c1" }))
                    }
                }
            }
        } }
    }
}

fn key(class: &str) -> Markup {
    html! { svg.key viewBox="0 0 26 10" aria-hidden="true" { g class=(class) { path d="M0 5H26" {} } } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::{APP_RTT_SOURCE, Gathered};
    use railgauge_core::histogram::Recorder;
    use railgauge_core::path::Transport;
    use railgauge_core::path_window::{Parameters, PathWindow};

    #[test]
    fn a_curve_of_the_fleet_is_of_all_of_it_or_is_not() {
        let parameters =
            Parameters { interval_ns: 1, timeout_ns: 1_000_000_000, size_bytes: 64, rdma: None };
        let mut window = PathWindow::new(parameters);
        let mut recorder = Recorder::new();
        (1..100).for_each(|n| recorder.record(n * 1_000));
        window.app_rtt = recorder.drain();
        let measures = Gathered::from_iter([&window]).measures(1_000_000_000, Transport::Udp);
        let ill = measures.app_rtt.unwrap();
        let mut healthy = ill.clone();
        assert_eq!(ill.timestamp_source, APP_RTT_SOURCE.to_string());
        assert!(Curve::merged("app RTT", [&healthy, &ill].into_iter()).is_some());
        healthy.hdr_v2.clear();
        assert!(Curve::merged("app RTT", [&healthy, &ill].into_iter()).is_none());
    }
}
