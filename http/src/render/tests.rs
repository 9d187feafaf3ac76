//! What Markdown becomes, for friends and foes.

use super::*;

#[test]
fn ordinary_markdown_is_rendered() {
    for (markdown, html) in [
        ("", ""),
        ("a *b* **c** ~~d~~ `e<f`", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e&lt;f</code></p>\n"),
        ("# One\n\n> two", "<h1>One</h1>\n<blockquote>\n<p>two</p>\n</blockquote>\n"),
        ("3. a\n4. b", "<ol start=\"3\">\n<li>a</li>\n<li>b</li>\n</ol>\n"),
        ("- [x] done", "<ul>\n<li><input disabled=\"\" type=\"checkbox\" checked=\"\">\ndone</li>\n</ul>\n"),
        (
            "[t](https://e.example/?a=1&b=2 \"x\")",
            "<p><a href=\"https://e.example/?a=1&amp;b=2\" title=\"x\" target=\"_blank\" rel=\"noopener noreferrer nofollow\">t</a></p>\n",
        ),
    ] {
        assert_eq!(to_html(markdown), html, "{markdown}");
    }
}

#[test]
fn a_table_keeps_its_alignment_without_a_style() {
    let html = to_html("| a | b | c |\n| - | -: | :-: |\n| 1 | 2 | 3 |");
    for part in ["<th>a</th>", "<th align=\"right\">b</th>", "<td align=\"center\">3</td>"] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
}

#[test]
fn an_image_becomes_a_link() {
    let html = to_html("![a *cat*](https://e.example/cat.png)");
    assert!(html.contains("<a href=\"https://e.example/cat.png\"") && html.contains("a <em>cat</em>"), "{html}");
    assert!(!html.contains("<img"));
}

#[test]
fn code_is_coloured_by_classes() {
    let html = to_html("```rust\nfn main() {} // \"<x>\"\n```");
    assert!(html.starts_with("<pre><code class=\"language-rust\">"), "{html}");
    assert!(html.contains("<span class=\"hl-storage hl-type hl-function\">fn</span>"), "{html}");
    assert!(html.contains("<span class=\"hl-comment hl-line"), "{html}");
    assert!(html.contains("&lt;x&gt;"), "{html}");
    for language in ["ts", "python", "sh", "json", "c++", "sql", "yaml", "diff"] {
        let html = to_html(&format!("```{language}\nif (x) {{ \"y\": 1 }} -- z\n+ a\n# b\n```"));
        assert!(html.contains("class=\"hl-"), "{language}: {html}");
    }
}

#[test]
fn code_of_no_known_language_is_plain() {
    assert_eq!(to_html("```\na<b\n```"), "<pre><code>a&lt;b\n</code></pre>\n");
    assert_eq!(to_html("```zork x\na\n```"), "<pre><code class=\"language-zork\">a\n</code></pre>\n");
    assert_eq!(to_html("    a"), "<pre><code>a</code></pre>\n");
    assert_eq!(to_html("```\"onload=x\na\n```"), "<pre><code>a\n</code></pre>\n");
}

#[test]
fn an_unfinished_fence_is_code_already() {
    let html = to_html("text\n\n```python\nx = 1");
    assert!(html.contains("<pre><code class=\"language-python\">x "), "{html}");
    assert!(html.ends_with("</code></pre>\n"));
}

#[test]
fn every_kind_of_span_is_announced() {
    let html = to_html("```html\n<p class=\"a\">&amp;<!-- c --></p><script>let a = /x/g;</script>\n```");
    for class in html.split("<span class=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let kind = class.split(' ').next().and_then(|first| first.strip_prefix(highlight::PREFIX)).unwrap_or_default();
        assert!(highlight::KINDS.contains(&kind), "{class}");
    }
}

/// Texts that try to get markup of their own past the renderer.
const HOSTILE: [&str; 34] = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//e.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=x></object><embed src=x><base href=//e.example>",
    "<form action=//e.example><button formaction=javascript:alert(1)>x",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<p style=\"position:fixed\" id=\"composer\" class=\"composer\">x</p>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<textarea></textarea><img src=x onerror=alert(1)>",
    "<template><img src=x onerror=alert(1)></template>",
    "<meta http-equiv=refresh content='0;url=//e.example'>",
    "<link rel=stylesheet href=//e.example/x.css>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](&#x6A;avascript:alert(1))",
    "[x](\u{1}javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](//e.example/x)",
    "[x](/v1/sessions)",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    "```\"><img src=x onerror=alert(1)>\ncode\n```",
    "```rust\n</code></pre><img src=x onerror=alert(1)>\n```",
    "[\"><img src=x onerror=alert(1)>](https://e.example/\"><img src=x onerror=alert(1)>)",
];

#[test]
fn hostile_text_stays_text() {
    for text in HOSTILE {
        let html = to_html(text);
        for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
            let mut words = tag.trim_start_matches('/').split(' ');
            let name = words.next().unwrap_or_default();
            assert!(["p", "a", "pre", "code", "span"].contains(&name), "{text} made {html}");
            let attributes = words.collect::<Vec<_>>().join(" ");
            for bad in ["on", "style=", "id=", "srcdoc", "javascript", "data:", "vbscript"] {
                let found = attributes.split('"').step_by(2).any(|outside| outside.trim().starts_with(bad))
                    || attributes.contains(&format!("href=\"{bad}"));
                assert!(!found, "{text} made {html}");
            }
        }
        assert!(!html.contains("href=\"/"), "{text} made {html}");
    }
}

#[test]
fn every_prefix_of_an_answer_is_safe() {
    let answer = "# T\n\n<b onclick=x>[a](javascript:x) ```js\nlet a = '</script>';\n```\n\n| a |\n|-|\n| <img src=x> |\n\n- [ ] ![y](z)";
    for (end, _) in answer.char_indices() {
        let html = to_html(&answer[..end]);
        assert!(!html.contains("<b") || html.contains("<blockquote"), "{html}");
        assert!(!html.contains("<img") && !html.contains("javascript:x\"") && !html.contains("</script"), "{html}");
    }
}

#[test]
fn a_text_that_is_too_long_is_shown_as_it_is() {
    let html = to_html(&"*<b>*\n".repeat(MAX_BYTES / 4));
    assert!(html.starts_with("<pre>*&lt;b&gt;*\n") && html.ends_with("</pre>\n"));
    assert!(!html.contains("<b>") && !html.contains("<em>"));
}

/// The text of [`MAX_BYTES`] that `unit` repeated makes, with `last` at its end.
fn full(unit: &str, last: &str) -> String {
    unit.repeat((MAX_BYTES - last.len()) / unit.len()) + last
}

/// The greatest number of elements inside one another.
fn depth(html: &str) -> usize {
    let tags = html.split('<').skip(1).filter(|tag| !["br", "hr", "input"].iter().any(|void| tag.starts_with(void)));
    let depths = tags.scan(0_usize, |open, tag| {
        *open = if tag.starts_with('/') { open.saturating_sub(1) } else { *open + 1 };
        Some(*open)
    });
    depths.max().unwrap_or_default()
}

/// Quotes and lists with an item each, what a table or a paragraph takes, and what is inside that.
const MAX_DEPTH: usize = 2 * nesting::MAX_BLOCKS + 6 + nesting::MAX_INLINES;

#[test]
fn text_that_nests_without_end_is_shown_flat_from_some_depth_on() {
    for (unit, last) in [
        (">", "deepest"),
        ("> ", "deepest"),
        ("- ", "deepest"),
        ("1. ", "deepest"),
        ("> - + ", "*deepest*"),
        ("*a **b ", "deepest"),
        ("[", "deepest"),
        ("![", "deepest"),
        ("[a](", "deepest"),
        ("[a][", "deepest"),
    ] {
        let html = to_html(&full(unit, last));
        assert!(depth(&html) <= MAX_DEPTH, "{unit}: {}", depth(&html));
        assert!(html.len() <= 8 * MAX_BYTES, "{unit}: {} bytes", html.len());
        assert!(html.contains("deepest"), "{unit}: the text is lost");
    }
}

#[test]
fn what_opens_and_closes_without_end_is_shown_flat_from_some_depth_on() {
    for (open, close) in
        [("*a ", " b*"), ("**a *b ", " c* d**"), ("~~a *b ", " c* d~~"), ("![", "](b)"), ("[![", "](b)](c)")]
    {
        let levels = MAX_BYTES / (open.len() + close.len()) - 2;
        let html = to_html(&format!("{}deepest{}", open.repeat(levels), close.repeat(levels)));
        assert!(depth(&html) <= MAX_DEPTH, "{open}: {}", depth(&html));
        assert!(html.len() <= 8 * MAX_BYTES && html.contains("deepest"), "{open}: {} bytes", html.len());
    }
}

#[test]
fn what_is_shown_flat_keeps_its_words_apart() {
    let lists = |last: &str| format!("{}{last}", "- ".repeat(nesting::MAX_BLOCKS + 3));
    let indent = " ".repeat(2 * (nesting::MAX_BLOCKS + 2));
    let html = to_html(&format!("{}\n{indent}- two", lists("one")));
    assert!(html.contains("one<br>\ntwo"), "{html}");
    let quotes = to_html(&format!("{}one\n>\n> two", ">".repeat(nesting::MAX_BLOCKS + 3)));
    assert!(quotes.contains("<p>one</p>") && quotes.contains("<p>two</p>"), "{quotes}");
    assert_eq!(to_html("> - a\n>   > b").matches("<blockquote>").count(), 2, "what is not deep keeps its form");
}

#[test]
fn a_link_holds_no_link() {
    let html = to_html("[a ![b](https://e.example/b.png) c](https://e.example/)");
    assert_eq!(html.matches("<a ").count(), 1, "{html}");
    assert!(html.contains(">a b c</a>"), "{html}");
}

#[test]
fn lines_that_go_on_with_all_that_is_open_are_shown_as_they_are() {
    let half = MAX_BYTES / 2;
    let html = to_html(&format!("{}a\n{}", ">".repeat(half), "b\n".repeat(half / 2 - 1)));
    assert!(html.starts_with("<pre>&gt;&gt;") && html.ends_with("b\n</pre>\n"));
    let ordinary = format!("{}\n\n*a*\n{}", "-".repeat(120), "    indented\n".repeat(10_000));
    assert!(to_html(&ordinary).contains("<em>a</em>"));
}

#[test]
fn a_wide_table_with_many_rows_is_as_large_as_its_text() {
    let wide = MAX_BYTES / 8;
    let table = format!("{}\n{}\n{}", "|a".repeat(wide), "|-".repeat(wide), "b\n".repeat(MAX_BYTES / 4));
    let html = to_html(&table);
    assert!(html.len() <= 16 * table.len(), "{} bytes", html.len());
    let html = to_html("| a | b | c |\n| - | - | - |\n| | 2 |\n| 1 | | 3 |");
    assert!(html.contains("<tr><td></td><td>2</td></tr>"), "{html}");
    assert!(html.contains("<tr><td>1</td><td></td><td>3</td></tr>"), "{html}");
}

#[test]
fn text_made_to_be_slow_is_in_proportion_when_rendered() {
    for unit in
        ["`", "<", "&#0;", "| a ", "|a\n|-\n", "*_", "<a b=\"", "[a]: b\n\n[a] ", "a\n", "> ```\n", "```js\n(((\n"]
    {
        let html = to_html(&full(unit, ""));
        assert!(html.len() <= 16 * MAX_BYTES && depth(&html) <= MAX_DEPTH, "{unit}: {} bytes", html.len());
    }
    let html = to_html(&format!("```js\n{}", full("({[", "")[..MAX_BYTES - 8].to_owned()));
    assert!(html.starts_with("<pre><code class=\"language-js\">") && html.len() <= 2 * MAX_BYTES);
}
