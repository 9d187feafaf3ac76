//! Small pictures of images that people have sent: made once, kept, and for nobody who may not have the image.

use std::io::Cursor;

use futures_util::future::join_all;
use image::{DynamicImage, ImageFormat, RgbImage};
use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::Client;
use somaagent_test_services::port;
use uuid::Uuid;

use crate::downloads::Planted;
use crate::identity::{guarded, token};
use crate::stack::{Setup, Stack};
use crate::uploads::{Form, upload};

/// An image, red on the left.
pub fn image(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let red = |x: u32| if x < width / 2 { image::Rgb([250, 0, 0]) } else { image::Rgb([0, 0, 250]) };
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, _| red(x))).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn path(id: &str) -> String {
    format!("/v1/attachments/{id}/thumbnail")
}

async fn thumbnail(client: &Client, id: &str) -> reqwest::Response {
    client.request(Method::GET, &path(id)).send().await.unwrap()
}

/// Status and problem code.
async fn refusal(client: &Client, id: &str) -> (u16, String) {
    let answer = client.get(&path(id)).await.unwrap();
    (answer.status, answer.code())
}

#[tokio::test]
async fn an_image_has_a_small_picture_that_is_made_once_and_goes_with_it() {
    let metrics_port = port::free();
    let stack = Setup::default().set("GATEWAY_METRICS_PORT", metrics_port).start().await;
    let form = Form::default().file("photo.jpg", "image/jpeg", &image(ImageFormat::Jpeg, 1600, 800)).file(
        "plan.png",
        "image/png",
        &image(ImageFormat::Png, 30, 60),
    );
    let sent = upload(&stack.client, form).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let sent = sent.json();
    let id = |n: usize| sent[n]["id"].as_str().unwrap();
    let all = join_all((0..4).map(|_| thumbnail(&stack.client, id(0)))).await;
    let mut tags = Vec::new();
    for answer in all {
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        for (name, value) in [
            ("content-type", "image/webp"),
            ("cache-control", "private, no-cache"),
            ("x-content-type-options", "nosniff"),
            ("content-disposition", "attachment; filename=\"photo.jpg.webp\""),
        ] {
            assert_eq!(header(name), value, "{name}");
        }
        assert!(header("content-security-policy").starts_with("sandbox; default-src 'none'"));
        tags.push(header("etag"));
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(image::guess_format(&bytes).unwrap(), ImageFormat::WebP);
        let seen = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(seen.dimensions(), (320, 160));
        assert!(seen.get_pixel(10, 80)[0] > 200 && seen.get_pixel(310, 80)[0] < 60);
    }
    let small = thumbnail(&stack.client, id(1)).await.bytes().await.unwrap();
    assert_eq!(image::load_from_memory(&small).unwrap().into_rgb8().dimensions(), (30, 60), "it is small already");
    let metrics = Client::new(&format!("http://127.0.0.1:{metrics_port}")).unwrap();
    let page = metrics.get("/metrics").await.unwrap().text;
    assert!(page.contains("extraction_seconds_count{wanted=\"thumbnail\"} 2\n"), "one each: {page}");

    let same = stack.client.request(Method::GET, &path(id(0))).header("If-None-Match", &tags[0]).send().await.unwrap();
    assert_eq!(same.status(), 304);
    let pool = stack.database.pool().await.unwrap();
    let kept = async || {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM attachment_pictures").fetch_one(&pool).await.unwrap()
    };
    assert_eq!(kept().await, 2);
    for sql in ["UPDATE attachments SET deleted_at = now(), blob_id = NULL", "DELETE FROM attachment_blobs"] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    assert_eq!(kept().await, 0);
    assert_eq!(refusal(&stack.client, id(0)).await, (410, "attachment-gone".to_owned()));
}

#[tokio::test]
async fn what_is_no_image_or_a_broken_one_has_no_thumbnail() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let whole = image(ImageFormat::Png, 400, 400);
    let text = Planted::of("public", "a.txt").plant(&pool, &[b"tea"]).await;
    let broken = Planted::of("public", "a.png").typed("image/png").plant(&pool, &[&whole[..whole.len() / 2]]).await;
    let lying = Planted::of("public", "a.jpg").typed("image/jpeg").plant(&pool, &[b"<svg/>"]).await;
    let tried = "SELECT count(*) FROM attachment_pictures WHERE failure IS NOT NULL";
    for (id, why) in [(text, "only"), (broken, "broken"), (lying, "no PNG"), (broken, "broken")] {
        let answer = stack.client.get(&path(&id.to_string())).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (404, "thumbnail-not-found"), "{}", answer.text);
        assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{}", answer.text);
    }
    assert_eq!(sqlx::query_scalar::<_, i64>(tried).fetch_one(&pool).await.unwrap(), 2);
}

#[tokio::test]
async fn a_thumbnail_is_refused_where_its_image_is() {
    let stack = guarded().await;
    let pool = stack.database.pool().await.unwrap();
    let [ann, bob] = ["ann", "bob"].map(|name| stack.client.showing(&token("acme", name, "chat")).unwrap());
    let png = image(ImageFormat::Png, 4, 4);
    let planted = Planted::of("acme", "a.png").typed("image/png").by("ann");
    let own = planted.plant(&pool, &[&png]).await.to_string();
    let quarantined = planted.quarantined("infected").plant(&pool, &[&png]).await.to_string();
    let foreign = Planted::of("umbrella", "a.png").typed("image/png").by("ann").plant(&pool, &[&png]).await.to_string();
    for (name, client, id, status, code) in [
        ("their own", &ann, &own, 200, ""),
        ("another's", &bob, &own, 404, "attachment-unknown"),
        ("quarantined", &ann, &quarantined, 403, "attachment-quarantined"),
        ("another tenant's", &ann, &foreign, 404, "attachment-unknown"),
        ("nobody's", &ann, &Uuid::new_v4().to_string(), 404, "attachment-unknown"),
        ("no id", &ann, &"x".to_owned(), 400, "attachment-id-invalid"),
    ] {
        let answer = thumbnail(client, id).await;
        assert_eq!(answer.status().as_u16(), status, "{name}");
        if status != 200 {
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], json!(code), "{name}");
        }
    }
    assert_eq!(refusal(&stack.client, &own).await, (401, "authorization-missing".to_owned()));
}
