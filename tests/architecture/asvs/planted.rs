//! The rules find what is planted in a page that is right.

use std::path::PathBuf;

use super::proofs::{Proofs, browser_tests, checks, headings, rust_tests};
use super::{Requirement, faults};

const LIST: &str = "# The list\nV1.1.1 2\nV1.2.1 1\nV2.1.1 1\nV2.2.1 1\nV3.1.1 2\n";

const PAGE: &str = "# The page

| state | level 1 | level 2 | rows |
| --- | --- | --- | --- |
| met | 2 | 0 | 2 |
| partly | 0 | 1 | 1 |
| open | 1 | 0 | 1 |
| n/a | 0 | 1 | 1 |
| all | 3 | 2 | 5 |

## Open

- V2.2.1: numbers.

## V1

| requirement | level | state | what we do | proof |
| --- | --- | --- | --- | --- |
| V1.1.1 | 2 | partly | bytes are read once; missing: the others | `bytes_are_read_once` |
| V1.2.1 | 1 | met | text stays text | `http/x.rs::told_twice`, `page.test.js: text is text`, `ci: lints` |
| V2.1.1 | 1 | met | the page says it | `docs/page.md#what-is-taken` |
| V2.2.1 | 1 | open | missing: a check of numbers | |
| V3.1.1 | 2 | n/a | there are no cookies | |
";

fn known() -> Proofs {
    let mut known = Proofs::default();
    known.rust.insert("bytes_are_read_once".to_owned(), [PathBuf::from("src/x.rs")].into());
    known.rust.insert("told_twice".to_owned(), ["src/x.rs", "http/x.rs"].map(PathBuf::from).into());
    known.browser.insert("page.test.js: text is text".to_owned());
    known.checks.insert("ci: lints".to_owned());
    known.pages.insert("docs/page.md#what-is-taken".to_owned());
    known
}

fn found(page: &str) -> Vec<String> {
    faults(page, LIST, &known()).into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
}

#[test]
fn a_page_that_is_right_has_no_finding() {
    assert_eq!(found(PAGE), [""; 0]);
}

#[test]
fn whatever_is_wrong_with_the_table_is_found() {
    let open = "| V2.2.1 | 1 | open | missing: a check of numbers | |\n";
    for (right, wrong, expected) in [
        // Numbers.
        ("| V3.1.1 | 2 | n/a | there are no cookies | |\n", "", "1: V3.1.1 has no row"),
        (open, &open.repeat(2), "23: V2.2.1 has a row already"),
        ("| V3.1.1 |", "| V3.1.2 |", "23: V3.1.2 is no requirement of these chapters and levels"),
        ("| V3.1.1 | 2 |", "| V3.1.1 | 1 |", "23: V3.1.1 is of level 2"),
        (
            open,
            "| V3.1.1 | 2 | n/a | there are no cookies | |\n| V2.2.1 | 1 | open | missing: all | |\n",
            "23: V2.2.1 is not in the order of the standard",
        ),
        // States, words and reasons.
        ("| 2 | n/a | there", "| 2 | fine | there", "23: V3.1.1: `fine` is none of"),
        ("| there are no cookies |", "| |", "23: V3.1.1 does not say what is done"),
        ("| missing: a check of numbers |", "| a check of numbers |", "22: V2.2.1: what is not there follows"),
        ("; missing: the others", "", "19: V1.1.1: what is not there follows"),
        ("text stays text", "text stays text; missing: the rest", "20: V1.2.1: what is not there follows"),
        ("`docs/page.md#what-is-taken`", "", "21: V2.1.1: what is met or partly met has proofs"),
        (
            "| there are no cookies | |",
            "| there are no cookies | `bytes_are_read_once` |",
            "23: V3.1.1: what is met or",
        ),
        ("| there are no cookies | |", "| there are no cookies |", "23: a row has five cells"),
        // Proofs.
        ("`bytes_are_read_once`", "`bytes_are_read_twice`", "19: V1.1.1: `bytes_are_read_twice` is no test"),
        ("`bytes_are_read_once`", "bytes_are_read_once", "19: V1.1.1: what is met or partly met has proofs"),
        ("`bytes_are_read_once`", "`http/x.rs::bytes_are_read_once`", "is no test of that file"),
        ("`http/x.rs::told_twice`", "`told_twice`", "20: V1.2.1: `told_twice` is a test of each of"),
        (
            "page.test.js: text is text",
            "page.test.js: text is not",
            "20: V1.2.1: `page.test.js: text is not` is no test of",
        ),
        ("page.test.js: text", "other.test.js: text", "is no test of a suite"),
        ("`ci: lints`", "`ci: hints`", "20: V1.2.1: `ci: hints` is no check"),
        ("#what-is-taken", "#what-is-not", "21: V2.1.1: `docs/page.md#what-is-not` is no heading"),
        ("`bytes_are_read_once`", "`docs/page.md#what-is-taken`", "more than words is asked for"),
        // Totals and the head.
        ("| met | 2 | 0 | 2 |", "| met | 2 | 0 | 3 |", "1: the totals are wrong: `| met | 2 | 0 | 2 |`"),
        ("| all | 3 | 2 | 5 |\n", "", "1: the totals are wrong: `| all | 3 | 2 | 5 |`"),
        ("- V2.2.1: numbers.", "- Numbers.", "1: V2.2.1 is open, and the head does not say so"),
        ("- V2.2.1: numbers.", "- V2.2.1, V3.1.1.", "1: the head calls V3.1.1 open"),
    ] {
        assert_eq!(PAGE.matches(right).count(), 1, "{right}");
        let found = found(&PAGE.replace(right, wrong));
        assert!(found.iter().any(|finding| finding.contains(expected)), "{wrong}: {found:#?}");
    }
}

#[test]
fn only_what_is_run_as_a_test_is_one() {
    let code = r##"
        #[test]
        fn plain() {}
        #[actix_web::test]
        async fn of_a_library() {}
        #[expect(clippy::panic, reason = "a reason")]
        #[sqlx::test(migrations = "../migrations")]
        #[doc = "Words."]
        pub async fn with_attributes() {}
        mod tests { mod inner { #[tokio::test] async fn inside() { fn helper() {} } } }
        proptest! { #[test] fn of_a_macro(x in 0..9) {} }

        // #[test]
        fn commented() {}
        /* #[test] fn in_a_block() {} */
        fn helper_of_nobody() {}
        #[tokio::main]
        async fn no_test() {}
        #[cfg(test)]
        fn for_tests() {}
        #[cfg_attr(all(), test)]
        fn perhaps() {}
        #[test]
        const NO_FUNCTION: fn() = helper_of_nobody;
        #[test]
        #[ignore = "slow"]
        fn never_run() {}
        const TEXT: &str = "#[test] fn in_a_text() {}";
        #[test_case]
        fn of_another_kind() {}
    "##;
    let tests = rust_tests(code.parse().unwrap());
    assert_eq!(tests, ["plain", "of_a_library", "with_attributes", "inside", "of_a_macro"]);
}

#[test]
fn only_titles_of_tests_that_are_run_are_titles() {
    let code = "
test('it is one', async () => {
for (const x of y) {
  test(`one in ${x}`, async () => {
// test('commented', () => {
/* test('in a block', () => {
test('in a longer block', () => { */
test.skip('left out', () => {
test('left out too', { skip: true }, () => {
await test(name, () => {
say('no test');
/** What it does. */
test(\"the last\", () => {
";
    assert_eq!(browser_tests(code), ["it is one", "one in ${x}", "the last"]);
}

#[test]
fn only_checks_that_are_made_are_checks() {
    let script =
        "# check \"format\" cargo fmt\ncheck() {\n    check \"inner\" x\ncheck \"lints\" cargo clippy\nsay \"tests\"\n";
    assert_eq!(checks(script), ["ci: lints"]);
}

#[test]
fn a_heading_is_named_as_in_an_address() {
    assert_eq!(headings("# Who may, and when\ntext\n## API keys\n#Half"), ["who-may-and-when", "api-keys", "half"]);
}

#[test]
fn words_are_enough_where_words_are_asked_for() {
    let of = |number| Requirement { number, level: "2" }.is_of_documentation();
    assert!(["V2.1.1", "V6.1.3", "V7.1.1", "V16.1.1"].into_iter().all(of));
    assert!(!["V1.1.1", "V4.1.1", "V9.1.1", "V10.1.1", "V2.2.1", "V11.2.1"].into_iter().any(of));
}
