//! Media asset upload: files, images, auxiliary assets and streams that came in.

use super::field::{JsonText, Number};
use super::model::event;

event! {
    /// An audio or video file has been uploaded.
    ///
    /// `Fail` is listed although, by VOD's account, no message is sent for a
    /// failed upload, which can be resumed; no error fields are documented.
    FileUploadComplete(Upload, Documented, "IMS user guide, \"Event list\"", ["FileUploadComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Always, Documented;
        /// Id of the asset, 32 hexadecimal digits.
        media_id: String = "MediaId", Always, Documented;
        /// `audio` or `video`.
        media_type: String = "MediaType", Always, Documented;
        /// Address of the file. Spelled `Url` here, `URL` in other events.
        file_url: String = "FileUrl", Always, Documented;
        /// Size in bytes, decimal digits.
        size: Number = "Size" as NUMBER_IN_STRING, Always, Documented;
        /// Id of the application, `app-1000000` by default.
        app_id: String = "AppId", Always, Documented;
        /// What the caller gave at the upload; absent from the sample.
        user_data: JsonText = "UserData", Sometimes, Documented;
    }
}

event! {
    /// A pull from a URL has ended.
    ///
    /// VOD's sample has trailing spaces inside names and values
    /// (`"SourceURL "`), most likely a slip of the page. The query API calls
    /// the same things `UploadURL` and `FileSize`.
    UploadByURLComplete(Upload, Partly, "\"Event list\" (first line), VOD \"UploadByURLComplete\", SDK `GetUrlUploadInfos`",
        ["UploadByURLComplete", "UploadByURLComplete.fail"]) {
        /// `Success`, and by analogy `Fail`.
        status: String = "Status", Always, Partly;
        /// The address that was pulled.
        source_url: String = "SourceURL", Sometimes, Partly;
        /// Id of the upload job.
        job_id: String = "JobId", Sometimes, InferredVod;
        /// Id of the asset; in VOD present when the file was uploaded.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Size in bytes, decimal digits; a string in VOD's sample too.
        size: Number = "Size" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Why it failed, for example `URLInvalidError`.
        error_code: String = "ErrorCode", Sometimes, InferredVod;
        /// Why it failed, in words.
        error_message: String = "ErrorMessage", Sometimes, InferredVod;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
    }
}

event! {
    /// An image has been uploaded.
    ///
    /// In VOD a failed upload sends no message, since it can be resumed.
    ImageUploadComplete(Upload, NameOnly, "VOD \"ImageUploadComplete\"", ["ImageUploadComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset; `ImageId` in VOD.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Address of the image. Spelled `URL`, unlike in `FileUploadComplete`.
        file_url: String = "FileURL", Sometimes, InferredVod;
        /// Size in bytes. VOD sends a number, IMS's own `FileUploadComplete` a string.
        size: Number = "Size" as STRING_OR_NUMBER, Sometimes, InferredVod;
        /// Id of the application; in VOD's sample, but not in its table.
        app_id: String = "AppId", Sometimes, InferredVod;
    }
}

event! {
    /// An auxiliary asset (a watermark, a subtitle file, …) has been uploaded.
    AttachedMediaUploadComplete(Upload, NameOnly, "VOD \"AttachedMediaUploadComplete\"", ["AttachedMediaUploadComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset; `AttachedMediaId` in VOD.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Address of the auxiliary asset.
        file_url: String = "FileURL", Sometimes, InferredVod;
        /// Size in bytes; a number in VOD.
        size: Number = "Size" as STRING_OR_NUMBER, Sometimes, InferredVod;
    }
}

event! {
    /// A media stream has been registered to an asset (`RegisterMediaStream`).
    /// Only an outline can be inferred.
    RegisterStreamComplete(Upload, NameOnly, "SDK `RegisterMediaStream`", ["RegisterStreamComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredJob;
        /// Id of the asset that the stream belongs to.
        media_id: String = "MediaId", Sometimes, InferredJob;
        /// What the caller gave at the registration.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
    }
}

event! {
    /// A media stream file has been uploaded (prepared by `CreateUploadStream`).
    StreamUploadComplete(Upload, NameOnly, "SDK `CreateUploadStream`", ["StreamUploadComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredJob;
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredJob;
        /// Address of the stream file.
        file_url: String = "FileURL", Sometimes, InferredJob;
        /// What the caller gave at the upload.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
    }
}

event! {
    /// A media stream has been pulled from a URL (`UploadStreamByURL`).
    ///
    /// VOD has no event of this name: it uses `UploadByURLComplete` with the
    /// `FileType` `Stream`.
    UploadStreamByURLComplete(Upload, NameOnly, "VOD \"UploadByURLComplete\" (stream section)", ["UploadStreamByURLComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset; `VideoId` in VOD.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Id of the upload job.
        job_id: String = "JobId", Sometimes, InferredVod;
        /// The address that was pulled.
        source_url: String = "SourceURL", Sometimes, InferredVod;
        /// `Stream`.
        file_type: String = "FileType", Sometimes, InferredVod;
        /// Address of the stream file; only on success.
        stream_file_url: String = "StreamFileURL", Sometimes, InferredVod;
        /// Why it failed; only on failure.
        error_code: String = "ErrorCode", Sometimes, InferredVod;
        /// Why it failed, in words; only on failure.
        error_message: String = "ErrorMessage", Sometimes, InferredVod;
        /// What the caller gave with the job; `Extend` in VOD.
        user_data: JsonText = "UserData", Sometimes, InferredVod;
    }
}
