//! Accessibility of the pages, by axe-core, which scripts/axe.sh gets from npm.

use super::web_driver::Browser;

/// Environment variable with the path of axe.min.js. Without it, nothing is checked.
const PATH: &str = "WONTUN_AXE";
/// Runs the checks of the page, and returns those that failed seriously.
const CHECK: &str = "
    const done = arguments[arguments.length - 1];
    axe.run(document).then((result) => done(result.violations
        .filter((each) => ['serious', 'critical'].includes(each.impact))
        .map((each) => each.id + ': ' + each.nodes.map((node) => node.html + ' ' + node.failureSummary).join(' / '))
        .join('; ')), (error) => done(String(error)));";

/// Fails if axe-core finds something serious on the page.
pub(super) fn check(browser: &Browser<'_>) {
    let Ok(path) = std::env::var(PATH) else {
        eprintln!("{PATH} is not set: accessibility is not checked");
        return;
    };
    let source = std::fs::read_to_string(path).unwrap();
    browser.run(&source, &[]);
    let found = browser.run_async(CHECK);
    assert_eq!(found.as_str(), Some(""), "{}", browser.url());
}
