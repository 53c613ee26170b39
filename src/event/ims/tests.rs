use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::schema::{Category, Confidence, Presence};
use super::*;
use crate::event::parse::tests::parsed;
use crate::event::{MALFORMED, Outcome};

fn all_samples() -> impl Iterator<Item = (&'static EventInfo, Sample)> {
    EVENTS
        .iter()
        .flat_map(|event| event.samples.iter().map(|sample| (*event, *sample)))
}

/// What an independent reader makes of a sample, by the rules of the catalogue.
fn expected(body: &Value) -> (Outcome, Option<String>, Option<String>) {
    let message = &body["MessageBody"];
    let text = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| message[*name].as_str().map(str::to_owned))
    };
    let outcome = match text(&["Status", "State"]).unwrap_or_default().as_str() {
        "Success" | "Succeed" | "Finished" | "Complete" => Outcome::Succeeded,
        "Fail" | "Failed" | "Error" => Outcome::Failed,
        _ => Outcome::Other,
    };
    (
        outcome,
        text(&["MediaId"]),
        text(&["JobId", "ParentJobId", "TaskId"]),
    )
}

#[test]
fn every_sample_comes_out_as_its_own_type() {
    for (event, sample) in all_samples() {
        let body: Value = serde_json::from_str(sample.body).unwrap();
        let read = parsed(sample.body.as_bytes());
        let (outcome, media_id, job_id) = expected(&body);
        assert_eq!(read.event_type, event.name, "{}", sample.name);
        assert_eq!(read.notes, [""; 0], "{}", sample.name);
        assert_eq!(
            read.user_id,
            Some(body["UserId"].to_string()),
            "{}",
            sample.name
        );
        assert_eq!(
            read.event_time.as_deref(),
            body["EventTime"].as_str(),
            "{}",
            sample.name
        );
        assert_eq!(
            (read.outcome, read.media_id, read.job_id),
            (outcome, media_id, job_id),
            "{}",
            sample.name
        );
        assert_eq!(
            read.outcome == Outcome::Failed,
            sample.name.ends_with(".fail"),
            "{}",
            sample.name
        );

        let typed = ImsEvent::from_event(&read.event_type, sample.body.as_bytes());
        assert_eq!(typed.event_type(), event.name);
        assert!(!matches!(typed, ImsEvent::Unknown(_)));
        // All `other` maps, at any depth, show in the debug output.
        let debug = format!("{typed:?}");
        assert_eq!(
            debug.matches("other: {}").count(),
            debug.matches("other: ").count(),
            "{debug}"
        );
    }
}

#[test]
fn every_file_is_the_sample_of_a_type_and_every_type_has_one() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let named: BTreeSet<String> = all_samples()
        .map(|(_, sample)| format!("{}.json", sample.name))
        .collect();
    assert_eq!(files, named);
    assert_eq!(named.len(), 33);
    for (event, sample) in all_samples() {
        assert_eq!(sample.name.trim_end_matches(".fail"), event.name);
    }
    assert!(all_types().all(|name| sample(name).is_some_and(|body| body.contains(name))));
    assert_eq!(sample("Nothing"), None);
}

#[test]
fn the_29_names_are_known_and_no_others() {
    assert_eq!(all_types().collect::<BTreeSet<_>>().len(), 29);
    for name in all_types() {
        assert_eq!(known_type(name), Some(name));
        assert_eq!(known_type(&name.to_lowercase()), None);
    }
    for name in [
        "",
        MALFORMED,
        "LiveRecordComplete",
        "AiProduceComplete",
        "StreamTranscodeComplete",
    ] {
        assert_eq!(known_type(name), None, "{name}");
    }
    let documented = EVENTS
        .iter()
        .filter(|event| matches!(event.confidence, Confidence::Documented | Confidence::Seen));
    assert_eq!(documented.count(), 4);
    for category in Category::ALL {
        assert!(EVENTS.iter().any(|event| event.category == category));
    }
}

#[test]
fn the_tables_are_sound() {
    for event in EVENTS {
        let names: BTreeSet<_> = event.model.fields.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), event.model.fields.len(), "{}", event.name);
        for field in event.model.fields {
            assert!(!field.docs.trim().is_empty());
            let certain = matches!(
                field.confidence,
                Confidence::Documented | Confidence::Seen | Confidence::Partly
            );
            assert!(
                certain || field.presence == Presence::Sometimes,
                "{}.{}",
                event.name,
                field.name
            );
        }
    }
}

/// A sample with one field of the `MessageBody` changed in every way.
fn variations(body: &Value) -> Vec<Value> {
    let others = [
        Value::Null,
        json!(""),
        json!("x"),
        json!(7),
        json!(1.5),
        json!(true),
        json!([]),
        json!([{}]),
        json!({}),
        json!({"a": [1]}),
    ];
    let mut all = Vec::new();
    for name in body["MessageBody"].as_object().unwrap().keys() {
        let mut without = body.clone();
        without["MessageBody"].as_object_mut().unwrap().remove(name);
        all.push(without);
        for other in &others {
            let mut with = body.clone();
            with["MessageBody"][name] = other.clone();
            all.push(with);
        }
    }
    for other in others {
        let mut with = body.clone();
        with["MessageBody"] = other;
        all.push(with);
    }
    all
}

#[test]
fn no_change_to_a_field_changes_the_type_or_the_acceptance() {
    for (event, sample) in all_samples() {
        for body in variations(&serde_json::from_str(sample.body).unwrap()) {
            let text = body.to_string();
            let read = parsed(text.as_bytes());
            assert_eq!(read.event_type, event.name, "{text}");
            assert_eq!(
                ImsEvent::from_event(event.name, text.as_bytes()).event_type(),
                event.name
            );
            let message = &body["MessageBody"];
            for field in event.model.fields {
                let missing = message.is_object() && message.get(field.name).is_none();
                let noted = read.notes.contains(&format!("`{}` is missing", field.name));
                assert_eq!(
                    noted,
                    missing && field.presence == Presence::Always,
                    "{text}"
                );
            }
            assert_eq!(
                message.is_object(),
                !read
                    .notes
                    .iter()
                    .any(|note| note.starts_with("`MessageBody`"))
            );
        }
    }
}

#[test]
fn other_envelopes_change_neither_type_nor_acceptance() {
    for (event, sample) in all_samples() {
        for name in ["UserId", "EventTime"] {
            for other in [
                Value::Null,
                json!(""),
                json!("1"),
                json!(5),
                json!(false),
                json!([]),
                json!({}),
            ] {
                let mut body: Value = serde_json::from_str(sample.body).unwrap();
                body[name] = other;
                assert_eq!(parsed(body.to_string().as_bytes()).event_type, event.name);
            }
            let mut body: Value = serde_json::from_str(sample.body).unwrap();
            body.as_object_mut().unwrap().remove(name);
            let read = parsed(body.to_string().as_bytes());
            assert_eq!(read.event_type, event.name);
            assert_eq!(read.notes, [format!("`{name}` is missing")]);
        }
    }
}

fn typed(event_type: &str) -> ImsEvent {
    ImsEvent::from_event(event_type, sample(event_type).unwrap().as_bytes())
}

#[test]
fn numbers_are_read_whichever_way_they_come() {
    let ImsEvent::FileUploadComplete(upload) = typed("FileUploadComplete") else {
        panic!()
    };
    assert_eq!(upload.size.unwrap().as_u64(), Some(5_510_872));

    let body = br#"{"MessageBody":{"Size":5510872,"Status":5,"New":[1e400]}}"#;
    let ImsEvent::FileUploadComplete(upload) = ImsEvent::from_event("FileUploadComplete", body)
    else {
        panic!()
    };
    assert_eq!(upload.size.unwrap().as_f64(), Some(5_510_872.0));
    assert_eq!(upload.status, None);
    assert_eq!(upload.other["Status"].value(), Some(json!(5)));
    assert_eq!(upload.other["New"].text(), "[1e400]");
    assert_eq!(upload.other["New"].value(), None);

    let ImsEvent::LiveRecordFileCreated(record) = typed("LiveRecordFileCreated") else {
        panic!()
    };
    assert_eq!(record.duration.as_ref().unwrap().as_str(), "100.0");
    assert_eq!(record.duration.unwrap().as_u64(), None);
    assert_eq!(
        record
            .record_output
            .unwrap()
            .get()
            .unwrap()
            .bucket
            .as_deref(),
        Some("imsbucket1")
    );
}

#[test]
fn json_in_strings_is_read_by_accessors() {
    let ImsEvent::ProduceMediaComplete(produce) = typed("ProduceMediaComplete") else {
        panic!()
    };
    let user_data = produce.user_data.unwrap();
    assert_eq!(
        user_data.json().unwrap()["NotifyAddress"],
        "http://notify.example.com/ice"
    );
    assert!(user_data.text().starts_with("{\"Notify"));
    assert!(user_data.parse::<Vec<u8>>().is_err());

    let ImsEvent::TranscodeComplete(transcode) = typed("TranscodeComplete") else {
        panic!()
    };
    let user_data = transcode.user_data.unwrap();
    assert_eq!((user_data.text(), user_data.json()), ("user-data", None));

    let ImsEvent::WorkflowTaskComplete(workflow) = typed("WorkflowTaskComplete") else {
        panic!()
    };
    assert_eq!(
        workflow
            .task_input
            .unwrap()
            .get()
            .unwrap()
            .r#type
            .as_deref(),
        Some("Media")
    );
    let results = workflow.activity_results.unwrap().get().unwrap();
    let job = results["VideoTranslation"].result.clone().unwrap();
    assert_eq!(job.status.as_deref(), Some("Finished"));
    assert_eq!(job.user_data.unwrap().json().unwrap()["VodSrc"], "Workflow");

    let ImsEvent::MediaBaseChangeComplete(change) = typed("MediaBaseChangeComplete") else {
        panic!()
    };
    let content = change.media_content.unwrap();
    let title = content.title.unwrap().get().unwrap();
    assert_eq!(title.old_value.unwrap().text(), "old title");
    let category = content.cate_id.unwrap().get().unwrap();
    assert_eq!(
        category.new_value.unwrap().json(),
        Some(json!(1_000_020_042))
    );
}

#[test]
fn an_object_may_come_in_a_string() {
    let mut body: Value = serde_json::from_str(sample("AIMediaAuditComplete").unwrap()).unwrap();
    let as_object = ImsEvent::from_event("AIMediaAuditComplete", body.to_string().as_bytes());
    body["MessageBody"]["Data"] = json!(body["MessageBody"]["Data"].to_string());
    let text = body.to_string();
    assert_eq!(parsed(text.as_bytes()).notes, [""; 0]);
    let ImsEvent::AIMediaAuditComplete(audit) =
        ImsEvent::from_event("AIMediaAuditComplete", text.as_bytes())
    else {
        panic!()
    };
    let data = audit.data.as_ref().unwrap();
    assert_eq!(data.suggestion.as_deref(), Some("review"));
    let video = data
        .video_result
        .as_ref()
        .unwrap()
        .porn_result
        .as_ref()
        .unwrap();
    assert_eq!(video.max_score.as_ref().unwrap().as_f64(), Some(92.48));
    assert_eq!(as_object, ImsEvent::AIMediaAuditComplete(audit));
}

#[test]
fn an_unknown_type_keeps_its_fields() {
    let body = br#"{"EventType":"New","MessageBody":{"A":[1],"B":"x"}}"#;
    let ImsEvent::Unknown(unknown) = ImsEvent::from_event("New", body) else {
        panic!()
    };
    assert_eq!(unknown.event_type, "New");
    assert_eq!(unknown.fields["A"].text(), "[1]");
    assert_eq!(unknown.fields["B"].value(), Some(json!("x")));
    assert_eq!(
        ImsEvent::from_event("New", b"no JSON")
            .info()
            .map(|event| event.name),
        None
    );
}

#[test]
fn the_last_of_a_repeated_field_counts() {
    let status = |message: &str| {
        let body = format!(r#"{{"MessageBody":{message}}}"#);
        match ImsEvent::from_event("RegisterMediaComplete", body.as_bytes()) {
            ImsEvent::RegisterMediaComplete(event) => (event.status, event.other.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        status(r#"{"Status":"a","Status":"b"}"#),
        (Some("b".into()), 0)
    );
    assert_eq!(status(r#"{"Status":"a","Status":5}"#), (None, 1));
    assert_eq!(
        status(r#"{"Status":5,"Status":"a"}"#),
        (Some("a".into()), 0)
    );
    assert_eq!(status(r#"{"Status":"a","Status":null}"#), (None, 0));
}
