//! Files of keys as people and their editors write them.

use crate::harness::{Folder, Post, body, output};

/// A folder with a source on `/keyed` whose keys are in the file `keys`.
fn with_keys(content: &[u8]) -> Folder {
    let folder = Folder::new(
        "[sources.keyed]\nkind = \"http\"\npath = \"/keyed\"\n\
         callback_urls = [\"https://callbacks.example.com/keyed\"]\n\
         auth = { scheme = \"ims\", keys_file = \"keys\" }\n",
    );
    std::fs::write(folder.path("keys"), content).expect("a file");
    folder
}

fn post<'a>(key: &'a str, body: &'a str) -> Post<'a> {
    Post {
        path: "/keyed",
        url: "https://callbacks.example.com/keyed",
        key,
        ..Post::of(body)
    }
}

#[test]
fn every_key_of_a_file_is_accepted_whatever_the_editor_added() {
    let folder = with_keys(
        "\u{feff}FirstKeyFirstKey\r\n\r\n \t SecondKeySecondKey \t\r\n\r\nThirdKeyThirdKey"
            .as_bytes(),
    );
    let service = folder.start();
    let keys = ["FirstKeyFirstKey", "SecondKeySecondKey", "ThirdKeyThirdKey"];
    for (position, key) in (1_u64..).zip(keys) {
        let (status, answer) = post(key, &body(position))
            .send(service.ingest)
            .expect("an answer");
        assert_eq!(status, 200, "{key}");
        let event = service.event(answer["id"].as_str().expect("an id"));
        assert_eq!(event["verified"]["key"], position);
        let counted =
            format!("ims_receiver_authentic_total{{source=\"keyed\",key=\"{position}\"}}");
        assert_eq!(service.metric(&counted), Some(1.0));
    }
    for stranger in [
        "\u{feff}FirstKeyFirstKey",
        "FirstKeyFirstKey\r",
        " \t SecondKeySecondKey \t",
        "",
        crate::harness::KEY,
    ] {
        let (status, _) = post(stranger, &body(9))
            .send(service.ingest)
            .expect("an answer");
        assert_eq!(status, 401, "{stranger:?}");
    }
}

#[test]
fn what_is_wrong_in_a_file_of_keys_is_named_and_no_key_shown() {
    for (content, words) in [
        (
            &b"CanaryKeyCanaryKey\r\nOther\r\n\r\nCanaryKeyCanaryKey\r\n"[..],
            "line 4 repeats line 1",
        ),
        (b"CanaryKey CanaryKey\n", "line 1 has a blank"),
        (b"CanaryKeyCanaryKey\nCanary\0Key\n", "line 2"),
        (b"CanaryKeyCanaryKey\n\xff\xfe\n", "line 2 is not UTF-8"),
        (b"\xef\xbb\xbf\r\n \t\r\n", "nothing but blank lines"),
        (b"", "nothing but blank lines"),
    ] {
        let folder = with_keys(content);
        for command in ["check", "serve"] {
            let (code, stdout, stderr) = output(folder.command().arg(command));
            let said = format!("{stdout}{stderr}");
            assert_eq!(code, 64, "{said}");
            assert!(said.contains("sources.keyed.auth.keys_file: "), "{said}");
            assert!(said.contains(words), "no {words:?} in: {said}");
            assert!(!said.contains("Canary"), "{said}");
        }
        assert!(!folder.path("data").exists(), "nothing was made");
    }
    let missing = with_keys(b"");
    std::fs::remove_file(missing.path("keys")).expect("it was written");
    let (code, _, stderr) = output(missing.command().arg("serve"));
    assert_eq!(code, 64);
    assert!(
        stderr.contains("sources.keyed.auth.keys_file: "),
        "{stderr}"
    );
    assert!(stderr.contains("No such file"), "{stderr}");
}
