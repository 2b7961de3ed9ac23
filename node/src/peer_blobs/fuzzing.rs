//! Requests about blobs and uploads for [`crate::fuzzing`].

use axum::extract::Query;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::range;
use super::wire::{
    AskHas, AskList, AskLists, AskManifest, CONFIRM_MAX, Claimed, Confirm, Confirmed, Fault, Finished, Has,
    HoldFrom, KeepFrom, Length, Lists, REQUEST_MAX, Told, UploadQuery,
};

/// The query of an upload's request: what is read is what was meant, also when it is passed on.
pub(crate) fn query(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(uri) = format!("/upload?{text}").parse::<http::Uri>() else { return false };
    let Ok(Query(query)) = Query::<UploadQuery>::try_from_uri(&uri) else { return false };
    let written = format!("/upload?{}", query.encode()).parse::<http::Uri>().expect("our own URI");
    let Query(again) = Query::<UploadQuery>::try_from_uri(&written).expect("our own query");
    assert_eq!(again, query, "{text:?} became {written}");
    true
}

/// A JSON body, as each kind that there is: read, written and read again it is the same.
pub(crate) fn body(bytes: &[u8]) -> bool {
    let stable = [
        is_stable::<Confirm>(bytes),
        is_stable::<Confirmed>(bytes),
        is_stable::<HoldFrom>(bytes),
        is_stable::<KeepFrom>(bytes),
        is_stable::<Claimed>(bytes),
        is_stable::<Length>(bytes),
        is_stable::<Finished>(bytes),
        is_stable::<Fault>(bytes),
        is_stable::<AskManifest>(bytes),
        is_stable::<AskList>(bytes),
        is_stable::<AskLists>(bytes),
        is_stable::<Lists>(bytes),
        is_stable::<AskHas>(bytes),
        is_stable::<Has>(bytes),
    ];
    if let Ok(fault) = serde_json::from_slice::<Fault>(bytes) {
        assert!(!fault.status().is_success());
    }
    // The longest question fits the limit of a body.
    if let Ok(question) = serde_json::from_slice::<Confirm>(bytes) {
        let one = serde_json::to_vec(&question).map_or(0, |text| text.len());
        assert!(question.digests.len() > CONFIRM_MAX || one <= REQUEST_MAX);
    }
    stable.contains(&true)
}

/// A manifest with what is said of it before: what is read is what was written.
pub(crate) fn manifest(bytes: &[u8]) -> bool {
    let body = bytes::Bytes::copy_from_slice(bytes);
    let Some((told, manifest)) = Told::read(&body) else { return false };
    assert!(!told.follows || manifest.len() as u64 == told.size);
    let written = bytes::Bytes::from(told.write(&manifest));
    assert_eq!(Told::read(&written), Some((told, manifest)));
    true
}

fn is_stable<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return false };
    let once = serde_json::to_value(&read).expect("our own types");
    let again: T = serde_json::from_value(once.clone()).expect("what was written");
    assert_eq!(serde_json::to_value(&again).expect("our own types"), once);
    true
}

/// A `Range` after a blob's size in eight bytes: what is served lies within the blob.
pub(crate) fn range(bytes: &[u8]) -> bool {
    let Some((size, header)) = bytes.split_first_chunk::<8>() else { return false };
    let (size, Ok(header)) = (u64::from_be_bytes(*size), std::str::from_utf8(header)) else { return false };
    let Some(read) = range::parse(header, size) else { return false };
    assert!(read.start < read.end && read.end <= size, "{header:?} of {size} is {read:?}");
    assert_eq!(range::parse(&range::format(&read), size), Some(read));
    true
}
