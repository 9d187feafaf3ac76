#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use somaagent_test_services::papers::Papers;

use super::*;
use crate::config::{Config, Environment};

/// The options of a DSN with these settings beside it.
fn opened(dsn: &str, beside: &[(&str, &str)]) -> Result<PgConnectOptions, DsnError> {
    let setting = |name: &str| beside.iter().find(|(named, _)| *named == name).map(|(_, value)| (*value).to_owned());
    let settings = DatabaseSettings {
        dsn: Some(dsn.into()),
        sslmode: setting("sslmode"),
        tls_ca: setting("tls_ca"),
        tls_cert: setting("tls_cert"),
        tls_key: setting("tls_key"),
        pool_size: 2,
        acquire_timeout_ms: 1000,
        statement_timeout_ms: 1000,
    };
    settings.server().map(Option::unwrap)
}

/// The mode in force, or what is wrong.
fn mode(dsn: &str, beside: &[(&str, &str)]) -> Result<String, String> {
    opened(dsn, beside).map(|options| format!("{:?}", options.get_ssl_mode())).map_err(|error| error.to_string())
}

#[test]
fn a_faulty_dsn_is_refused_without_being_repeated() {
    for dsn in [
        "me:hidden@h/d",
        "postgres:hidden",
        "mysql://me:hidden@h/d",
        "postgres://me:hidden@h:port/d",
        "postgres://me:hidden@h/d?sslmode=odd",
        "postgres://me:hidden@h/d?sslrootcert=/no/such&sslmode=require",
        "postgres://me:hidden@h/d?sslcert=/no/such",
    ] {
        let what = opened(dsn, &[]).unwrap_err().to_string();
        assert!(what.starts_with("database.dsn ") && !what.contains("hidden"), "{dsn}: {what}");
    }
    assert!(opened("postgresql://me:hidden@127.0.0.1:5432/d?sslmode=disable", &[]).is_ok());
}

#[test]
fn each_sslmode_is_what_libpq_makes_of_it_and_never_less() {
    for (asked, root, mode, judge) in [
        ("", "", "Prefer", Judge::Nobody),
        ("disable", "", "Disable", Judge::Nobody),
        ("allow", "", "Prefer", Judge::Nobody),
        ("prefer", "", "Prefer", Judge::Nobody),
        ("require", "", "Require", Judge::Nobody),
        ("REQUIRE", "", "Require", Judge::Nobody),
        ("verify-full", "", "VerifyFull", Judge::System),
        ("verify-full", "system", "VerifyFull", Judge::System),
        ("", "system", "VerifyFull", Judge::System),
        // Who names an authority has it asked.
        ("", "/ca", "VerifyCa", Judge::File),
        ("require", "/ca", "VerifyCa", Judge::File),
        ("verify-ca", "/ca", "VerifyCa", Judge::File),
        ("verify-full", "/ca", "VerifyFull", Judge::File),
        ("prefer", "/ca", "Prefer", Judge::Nobody),
        ("disable", "/ca", "Disable", Judge::Nobody),
    ] {
        let judged = judged(parsed(asked), given(root).as_ref()).unwrap();
        assert_eq!((format!("{:?}", judged.0).as_str(), judged.1), (mode, judge), "{asked} {root}");
    }
    for (asked, root, says) in [
        ("verify-ca", "", "sslrootcert must name the file"),
        ("verify-ca", "system", "sslmode=verify-full"),
        ("require", "system", "sslmode=verify-full"),
        ("disable", "system", "sslmode=verify-full"),
    ] {
        let fault = judged(parsed(asked), given(root).as_ref()).err().unwrap();
        assert!(fault.what.contains(says), "{asked} {root}: {fault}");
    }
}

fn parsed(mode: &str) -> Option<Mode> {
    (!mode.is_empty()).then(|| mode.parse().unwrap())
}

fn given(root: &str) -> Option<Given> {
    (!root.is_empty()).then(|| Given { key: DSN, name: "sslrootcert", value: root.to_owned() })
}

#[test]
fn of_a_dsn_that_repeats_itself_the_last_word_counts() {
    let papers = Papers::new().unwrap();
    let ca = papers.file("ca").to_str().unwrap().to_owned();
    for (query, expected) in [
        ("ssl-mode=disable&sslmode=require".to_owned(), "Require"),
        ("sslrootcert=".to_owned(), "Prefer"),
        (format!("sslmode=verify-full&sslrootcert=/no/such&ssl-ca={ca}"), "VerifyFull"),
    ] {
        assert_eq!(mode(&format!("postgres://h/d?{query}"), &[]).as_deref(), Ok(expected), "{query}");
    }
    for (query, says) in [
        ("sslmode=verify-full&sslrootcert=/no/such", "/no/such cannot be read"),
        ("sslmode=verify-full&sslrootcert=/dev/null", "/dev/null holds no certificate"),
    ] {
        let fault = mode(&format!("postgres://h/d?{query}"), &[]).unwrap_err();
        assert!(fault.contains(says), "{query}: {fault}");
    }
}

#[test]
fn what_the_dsn_leaves_open_the_variables_of_libpq_say() {
    let papers = Papers::new().unwrap();
    let ca = papers.file("ca").to_str().unwrap().to_owned();
    let beside = [("sslmode", "verify-full"), ("tls_ca", ca.as_str())];
    assert_eq!(mode("postgres://db.example/d", &beside).as_deref(), Ok("VerifyFull"));
    assert_eq!(mode("postgres://db.example/d?sslmode=disable", &beside).as_deref(), Ok("Disable"));

    let dsn = ("SA01_DB_DSN", "postgres://db.example/d");
    let config = Config::load(&Environment::of([dsn, ("PGSSLMODE", "require"), ("PGSSLROOTCERT", &ca)])).unwrap();
    assert!(matches!(config.database.server().unwrap().unwrap().get_ssl_mode(), Mode::VerifyCa));
    assert!(config.shown().contains("sslmode = \"require\""), "{}", config.shown());
    let faults = Config::load(&Environment::of([dsn, ("PGSSLMODE", "verify_full")])).unwrap_err().to_string();
    assert!(faults.contains("database.sslmode (PGSSLMODE): sslmode: must be disable"), "{faults}");
    let faults = Config::load(&Environment::of([dsn, ("PGSSLKEY", "/no/such")])).unwrap_err().to_string();
    assert!(faults.contains("database.tls_key (PGSSLKEY): sslkey: needs its certificate"), "{faults}");
}

#[test]
fn a_certificate_of_ones_own_needs_its_key_and_both_must_be_readable() {
    let papers = Papers::new().unwrap();
    let [cert, key, ca] = ["cert", "key", "ca"].map(|name| papers.file(name).to_str().unwrap().to_owned());
    let opened = |own: &str, key: &str| {
        opened(&format!("postgres://h/d?sslmode=require&sslcert={own}&sslkey={key}"), &[]).map_err(|error| error.what)
    };
    let options = opened(&cert, &key).unwrap();
    assert!(format!("{options:?}").contains(&format!("ssl_client_key: Some(File(\"{key}\"))")), "{options:?}");
    assert_eq!(opened(&cert, "").unwrap_err(), "sslcert: needs its key: sslkey is missing");
    assert_eq!(opened("", &key).unwrap_err(), "sslkey: needs its certificate: sslcert is missing");
    assert_eq!(opened(&key, &key).unwrap_err(), format!("sslcert: {key} holds no certificate in PEM"));
    assert_eq!(opened(&cert, &ca).unwrap_err(), format!("sslkey: {ca} holds no key without a password in PEM"));
    assert!(opened(&cert, "/no/such").unwrap_err().starts_with("sslkey: /no/such cannot be read"));
}

#[test]
fn what_is_asked_for_and_not_done_is_refused() {
    for query in [
        "channel_binding=require",
        "sslmode=require&channel_binding=require",
        "gssencmode=require",
        "require_auth=scram-sha-256",
        "ssl_min_protocol_version=TLSv1.3",
        "sslmode=verify-full&sslcrl=/crl",
        "sslcrldir=/crls",
        "ssl=true",
        "sslcertmode=require",
        "requirepeer=postgres",
        "requiressl=1",
        "sslnegotiation=direct",
        "host=/run/postgresql&require_auth=scram-sha-256",
    ] {
        let fault = mode(&format!("postgres://me:hidden@h/d?{query}"), &[]).unwrap_err();
        let (name, _) = query.rsplit('&').next().unwrap().split_once('=').unwrap();
        assert!(fault.contains(name) && !fault.contains("hidden"), "{query}: {fault}");
    }
    for query in ["channel_binding=prefer", "sslcrl=", "requiressl=0", "sslnegotiation=postgres", "connect_timeout=3"] {
        mode(&format!("postgres://h/d?{query}"), &[]).unwrap();
    }
}

#[test]
fn a_server_that_proves_its_name_needs_no_binding_besides() {
    let url = Url::parse("postgres://h/d?channel_binding=require").unwrap();
    assert!(refuse_not_done(&url, Mode::VerifyFull).is_ok());
    assert!(refuse_not_done(&url, Mode::VerifyCa).is_err());
}

#[test]
fn a_unix_socket_has_no_tls_and_an_address_no_brackets() {
    for dsn in ["postgres://%2Frun%2Fpg/d?sslmode=verify-full", "postgres:///d?host=/run/pg&sslrootcert=/no/such"] {
        assert_eq!(mode(dsn, &[("sslmode", "require")]).as_deref(), Ok("Disable"), "{dsn}");
    }
    assert_eq!(opened("postgres://[2001:db8::7]:5433/d?sslmode=require", &[]).unwrap().get_host(), "2001:db8::7");
}
