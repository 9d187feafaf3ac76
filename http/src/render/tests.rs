//! What Markdown becomes, for friends and foes.

use std::time::Duration;

use tokio::time::Instant;

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

#[test]
fn text_made_to_be_slow_is_rendered_all_the_same() {
    for slow in [
        "[".repeat(50_000),
        "*a ".repeat(40_000),
        "> ".repeat(5_000),
        "`".repeat(60_000),
        format!("```js\n{}\n```", "(".repeat(100_000)),
        format!("```html\n{}```", "<a b='\n".repeat(10_000)),
        "| a ".repeat(20_000),
        "<".repeat(100_000),
        "&#0;".repeat(50_000),
    ] {
        let began = Instant::now();
        let html = to_html(&slow);
        assert!(began.elapsed() < Duration::from_secs(20), "{} took {:?}", &slow[..20], began.elapsed());
        assert!(!html.is_empty());
    }
}
