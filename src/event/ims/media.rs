//! Media asset management: assets that were reviewed, registered, changed or deleted.

use super::field::{Embedded, JsonText};
use super::model::{event, object};

event! {
    /// A person's verdict about an asset was recorded (`CreateAudit`).
    CreateAuditComplete(Media, NameOnly, "VOD \"CreateAuditComplete\"; SDK `CreateAudit` has the same verdicts", ["CreateAuditComplete"]) {
        /// Whether the operation worked: `Success` or `Fail`. Not the verdict.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// `video`.
        sub_type: String = "SubType", Sometimes, InferredVod;
        /// The verdict: `Normal` or `Blocked`.
        audit_status: String = "AuditStatus", Sometimes, InferredVod;
        /// When it was reviewed, UTC, `yyyy-MM-ddTHH:mm:ssZ`.
        creation_time: String = "CreationTime", Sometimes, InferredVod;
        /// Who reviewed it.
        auditor: String = "Auditor", Sometimes, InferredVod;
        /// Why; the request of IMS also has a `Comment`.
        reason: String = "Reason", Sometimes, InferredVod;
    }
}

event! {
    /// Registration of an asset, and its analysis, has ended: 2 to 3 seconds
    /// after `RegisterMediaInfo`, and for the output asset of an editing job.
    ///
    /// It says nothing about the asset: ask `GetMediaInfo`. It can arrive
    /// before the caller has kept the `MediaId` that `RegisterMediaInfo`
    /// returned.
    RegisterMediaComplete(Media, Seen, "a captured payload, July 2024, quoted in a public consumer", ["RegisterMediaComplete"]) {
        /// `Success`, and by analogy `Fail`.
        status: String = "Status", Always, Seen;
        /// Id of the asset.
        media_id: String = "MediaId", Always, Seen;
        /// What the caller gave at the registration. Public code reads it if it
        /// is there; the captured message has none.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
    }
}

event! {
    /// An asset, or a part of it, has been deleted.
    DeleteMediaComplete(Media, NameOnly, "VOD \"DeleteMediaComplete\"", ["DeleteMediaComplete", "DeleteMediaComplete.fail"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// `video`, `image` or `attached`.
        media_type: String = "MediaType", Sometimes, InferredVod;
        /// `all` (the whole asset), `mezzanine` (the source file) or `stream`
        /// (one output).
        delete_type: String = "DeleteType", Sometimes, InferredVod;
        /// The jobs whose outputs were deleted; only with `stream`.
        job_ids: String = "JobIds", Sometimes, InferredVod;
        /// Why it failed, for example `InvalidVideo.NotFound`.
        error_code: String = "ErrorCode", Sometimes, InferredVod;
        /// Why it failed, in words.
        error_message: String = "ErrorMessage", Sometimes, InferredVod;
    }
}

event! {
    /// Basic information of an asset was created, changed or deleted.
    MediaBaseChangeComplete(Media, NameOnly, "VOD \"MediaBaseChangeComplete\"", ["MediaBaseChangeComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// `video`, `image`, ….
        media_type: String = "MediaType", Sometimes, InferredVod;
        /// `create`, `update` or `delete`.
        operate_mode: String = "OperateMode", Sometimes, InferredVod;
        /// What changed. VOD's table types it as a string, its sample shows an object.
        media_content: MediaContent = "MediaContent" as OBJECT_OR_JSON, Sometimes, InferredVod;
    }
}

object! {
    /// The pieces of information that changed; each is JSON in a string.
    MediaContent {
        /// The title.
        title: Embedded<Change> = "Title", Sometimes, InferredVod;
        /// The description.
        description: Embedded<Change> = "Description", Sometimes, InferredVod;
        /// Address of the cover.
        cover_url: Embedded<Change> = "CoverURL", Sometimes, InferredVod;
        /// Id of the category; a number inside the string.
        cate_id: Embedded<Change> = "CateId", Sometimes, InferredVod;
        /// The tags.
        tags: Embedded<Change> = "Tags", Sometimes, InferredVod;
    }
}

object! {
    /// One piece of information before and after.
    Change {
        /// The value before; may be absent.
        old_value: JsonText = "OldValue", Sometimes, InferredVod;
        /// The value after.
        new_value: JsonText = "NewValue", Sometimes, InferredVod;
    }
}
