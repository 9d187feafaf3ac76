//! Migrations are applied by whoever starts the program, and each checks that the ones before are as they were: an edited one
//! would keep every existing database from being opened.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Every migration and the SHA-256 of its bytes. A change of the schema is a new line here, never another sum.
const APPLIED: &[(&str, &str)] = &[
    ("0001_conversations.sql", "a73237fcf6e0ee8ccbb5ec3b139bae7dc0119d818d9d4c474d26ef168f03caa1"),
    ("0002_brain_memories.sql", "de713557e7da16e27f747ff33d619ff867552dbbb0a373f0c1691ed13aaac1eb"),
    ("0003_durability.sql", "f3eb715f27865f0ddfb7a4d8cb7fde3fbb9ded7335c0d7f004b8cee61c332e8f"),
    ("0004_replica.sql", "d9cf644aec39a477b2f03b45e90d333d1b58f8d67a81f4cb30496b70faf70eb2"),
    ("0005_jobs.sql", "9d816d18333660250d709b30a2e893d6320feb64901d4139954d202f27336b59"),
    ("0006_leases.sql", "ea8a16be2cd59b265059194bb45a2d32a5cf0bc72e017ca73ad04520225cce78"),
    ("0007_outbox_room.sql", "13a7a849816dbb27d30e23c42fd6510ed9bbd39f05a7c0295b7d2976b388f962"),
    ("0008_revisions.sql", "3fb77324601da3083934a3aa290f4166cc64ede75d21fabaac11ea634a6c8c76"),
    ("0009_session_subjects.sql", "4e6f5974d617236e507b4c06a8de2fb5b7d8139ccc8e6951fa2b3feca00dd0fe"),
    ("0010_audit.sql", "73bf9344b3983258d2051d90cd8be65b56f7000bd206b3c3ed4dee5538438509"),
    ("0011_api_keys.sql", "41d8ef61bcf3dc063cd334940ad223d394cc7a801ab8d18c0720f2486909ae79"),
    ("0012_audit_server.sql", "521ea703995665d816c54fae7ca68b54f22515d5029c00e83251a62c1330b1a8"),
    ("0013_tenant_rows.sql", "ee6a031e63de58e4ef6c49909971464be5f7993ad9685e86d6484ce2c04a05af"),
    ("0014_logins.sql", "787538e6850ce6258cfe6e0d7792dcba9f42fee27320cdda9b9ebd2a134c3368"),
    ("0015_attachments.sql", "c547cf7dc7f0400be4b1d9835cbae3348b2e1a3883c82aeb737c0d115cfeffb7"),
    ("0016_ui_settings.sql", "ac0aa45cc0dda1262a6d00e6a44ae48237d228e7a5ad5958c9ef6416d80ecf10"),
    ("0017_attachment_contents.sql", "94c3d50d2cb345b81925b5ebece5b7d90cee1ea88a663c50a43aaab9086c3771"),
    ("0018_tus_uploads.sql", "d346b4fb8909c2e61d3d304d8ad9d17a08f6e5b2978bdde49de70990d5c05b13"),
    ("0019_attachment_verdicts.sql", "26664a33b1b8ed90b37ea2495636a6fce7df49017561a1d85a4e458fffabf884"),
    ("0020_attachment_links.sql", "79baf86862f2df6d48a185665986db5326129954999bf9dcfaaaad7e3fbface6"),
    ("0021_attachment_references.sql", "2128eb3f93ae38afabef8985bd4d90de392d3759384fc0cdbdd6e7e94bae691c"),
    ("0022_upload_quotas.sql", "ca19ecb1ed4c3a2e43fadbd7e4cd3c31450c24e087dff791d30c2766ae7df4fc"),
];

#[test]
fn a_migration_stays_as_it_was_applied() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let sum = Sha256::digest(fs::read(&path).unwrap());
            let sum = sum.iter().fold(String::new(), |mut digits, byte| {
                write!(digits, "{byte:02x}").unwrap();
                digits
            });
            (path.file_name().unwrap().to_string_lossy().into_owned(), sum)
        })
        .collect();
    found.sort();
    let found: Vec<(&str, &str)> = found.iter().map(|(name, sum)| (&**name, &**sum)).collect();
    assert_eq!(found, APPLIED, "a migration was edited, or is not listed");
}
