//! The pages in headless Chromium, cut off from every network: wide and narrow.

mod support;

use railgauge_core::quantile::Quantile;
use railgauge_report::doc::Sweep;
use railgauge_report::html::{live_page, sweep_page};
use support::{Fault, chromium, live, scratch, sweep};

fn pages() -> Vec<(&'static str, String)> {
    let faulty = Fault { slow_host: Some(2), ..Fault::default() };
    let many = Fault {
        slow_network: Some(1),
        lossy: Some(4),
        silent: Some(5),
        absent: Some(7),
        ..Fault::default()
    };
    let large = Fault { slow_network: Some(9), silent: Some(40), ..Fault::default() };
    let failed = Sweep { error: Some("no agent is connected".to_owned()), ..Sweep::default() };
    let (paths, findings) = live(&sweep(8, 125, faulty));
    vec![
        ("eight", sweep_page(&sweep(8, 500, faulty))),
        ("many", sweep_page(&sweep(8, 500, many))),
        ("two", sweep_page(&sweep(2, 1_000, Fault::default()))),
        ("large", sweep_page(&sweep(64, 100, large))),
        ("failed", sweep_page(&failed)),
        ("live", live_page(&paths, &findings, Quantile::P99)),
        ("hostile", hostile()),
    ]
}

/// Names as long as they may be, and texts that no line can be broken in.
fn hostile() -> String {
    let mut sweep = sweep(3, 100, Fault { slow_host: Some(1), ..Fault::default() });
    let long = "n".repeat(253);
    for path in &mut sweep.paths {
        path.src = path.src.replace("gpu-01", &long);
        path.src_node = path.src_node.replace("gpu-01", &long);
        path.dst = path.dst.replace("gpu-01", &long);
        path.dst_node = path.dst_node.replace("gpu-01", &long);
    }
    sweep.nodes[0].name = long.clone();
    sweep.id = "i".repeat(200);
    sweep.findings[0].component.name = long.clone();
    sweep.findings[0].summary = "s".repeat(300);
    sweep.findings[0].next_test = "x".repeat(300);
    sweep.findings[0].evidence.convict[0] = "y".repeat(300);
    sweep.parameters.nodes = "z".repeat(300);
    sweep.validity.push("v".repeat(300));
    sweep.error = Some("e".repeat(300));
    sweep_page(&sweep)
}

/// Asks a browser how wide a page is laid out in frames of these widths. A frame's content is given as `srcdoc`, as frames of
/// files may not be read.
fn laid_out(page: &str, widths: [u32; 2], name: &str) -> Vec<u32> {
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    let frames = widths.map(|width| {
        format!(
            "<iframe style=\"width:{width}px;height:800px;border:0\" srcdoc=\"{escaped}\"></iframe>"
        )
    });
    let outer = format!(
        "<!doctype html><body style=margin:0>{}<script>onload=()=>{{document.title='w'+[...document.querySelectorAll('iframe')]\
         .map(f=>f.contentDocument.documentElement.scrollWidth)}}</script>",
        frames.concat()
    );
    let file = scratch("browser").join(format!("{name}-frames.html"));
    std::fs::write(&file, outer).unwrap();
    let url = format!("file://{}", file.display());
    let dom = chromium(&["--virtual-time-budget=5000", "--dump-dom", &url]);
    let title = dom.split("<title>w").nth(1).expect("the page was loaded and measured");
    let title = title.split('<').next().unwrap();
    title.split(',').map(|width| width.parse().unwrap()).collect()
}

#[test]
fn no_page_scrolls_sideways_wide_or_narrow() {
    let widths = [360, 1280];
    for (name, page) in pages() {
        std::fs::write(scratch("browser").join(format!("{name}.html")), &page).unwrap();
        assert_eq!(laid_out(&page, widths, name), widths, "{name}");
    }
}
