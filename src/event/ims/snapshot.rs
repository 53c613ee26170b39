//! Media processing in the manner of VOD: pictures out of videos.

use super::field::{Embedded, JsonText, Number};
use super::file_meta::{JobFile, Location};
use super::model::{event, object};

event! {
    /// A snapshot job (`SubmitSnapshotJob`) has ended.
    ///
    /// Two shapes are likely: the job's, which comes first here, and the one of
    /// VOD's event, from `SubType` on. VOD's sample has neither asset nor status.
    SnapshotComplete(Transcode, NameOnly, "SDK `GetSnapshotJob`; VOD \"SnapshotComplete\"", ["SnapshotComplete"]) {
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// `Success` or `Fail`; the query also has `Init`.
        status: String = "Status", Sometimes, InferredJob;
        /// `Normal`, `Sprite` or `WebVtt`.
        r#type: String = "Type", Sometimes, InferredJob;
        /// How many pictures were made.
        count: Number = "Count", Sometimes, InferredJob;
        /// Where the source lies.
        input: Location = "Input", Sometimes, InferredJob;
        /// Where the pictures lie; `Media` holds a pattern with `{Count}`.
        output: Location = "Output", Sometimes, InferredJob;
        /// Id of the template.
        template_id: String = "TemplateId", Sometimes, InferredJob;
        /// What was asked for instead of, or beside, the template.
        template_config: JsonText = "TemplateConfig", Sometimes, InferredJob;
        /// Why it failed.
        code: String = "Code", Sometimes, InferredJob;
        /// Why it failed, in words.
        message: String = "Message", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was submitted, UTC.
        submit_time: String = "SubmitTime", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it last changed, UTC.
        modified_time: String = "ModifiedTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
        /// Who started it: `Console`, `Workflow` or `API`.
        trigger_source: String = "TriggerSource", Sometimes, InferredJob;
        /// Id of the asset; `VideoId` in VOD.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// `SpecifiedTime`, ….
        sub_type: String = "SubType", Sometimes, InferredVod;
        /// Address of the cover.
        cover_url: String = "CoverUrl", Sometimes, InferredVod;
        /// What the caller gave, in VOD's spelling of `UserData`.
        extend: JsonText = "Extend", Sometimes, InferredVod;
        /// Why it failed, in VOD's spelling of `Code`.
        error_code: String = "ErrorCode", Sometimes, InferredVod;
        /// Why it failed, in words, in VOD's spelling of `Message`.
        error_message: String = "ErrorMessage", Sometimes, InferredVod;
        /// The sets of pictures.
        snapshot_infos: Vec<SnapshotInfo> = "SnapshotInfos", Sometimes, InferredVod;
    }
}

object! {
    /// One set of pictures, as VOD describes it.
    SnapshotInfo {
        /// `success` or `fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// `CoverSnapshot`, `NormalSnapshot` or `SpriteSnapshot`.
        snapshot_type: String = "SnapshotType", Sometimes, InferredVod;
        /// How many pictures there are.
        snapshot_count: Number = "SnapshotCount", Sometimes, InferredVod;
        /// The format of the pictures.
        snapshot_format: String = "SnapshotFormat", Sometimes, InferredVod;
        /// Address with `{SnapshotCount}` in it, which stands for a number of 5
        /// digits with leading zeros.
        snapshot_regular: String = "SnapshotRegular", Sometimes, InferredVod;
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredVod;
    }
}

event! {
    /// A job that makes an animated image (`SubmitDynamicImageJob`) has ended.
    ///
    /// The job's shape comes first here; from `MediaId` on it is VOD's.
    DynamicImageComplete(Transcode, NameOnly, "SDK `GetDynamicImageJob`; VOD \"DynamicImageComplete\"", ["DynamicImageComplete"]) {
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// `Success` or `Fail`; the query also has `Init`.
        status: String = "Status", Sometimes, InferredJob;
        /// Where the source lies.
        input: JobFile = "Input", Sometimes, InferredJob;
        /// Where the animation lies.
        output: JobFile = "Output", Sometimes, InferredJob;
        /// Address of the animation.
        output_url: String = "OutputUrl", Sometimes, InferredJob;
        /// Id of the template.
        template_id: String = "TemplateId", Sometimes, InferredJob;
        /// What was asked for: format, frames per second, size in pixels.
        template_config: JsonText = "TemplateConfig", Sometimes, InferredJob;
        /// Why it failed, for example `ResourceNotFound`.
        code: String = "Code", Sometimes, InferredJob;
        /// Why it failed, in words.
        message: String = "Message", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was submitted, UTC.
        submit_time: String = "SubmitTime", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it last changed, UTC.
        modified_time: String = "ModifiedTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
        /// Id of the asset; `VideoId` in VOD.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Why it failed, in VOD's spelling of `Code`.
        error_code: String = "ErrorCode", Sometimes, InferredVod;
        /// Why it failed, in words, in VOD's spelling of `Message`.
        error_message: String = "ErrorMessage", Sometimes, InferredVod;
        /// The animation. VOD's table types it as an array, its sample shows JSON
        /// in a string.
        dynamic_image_job_info: Embedded<DynamicImageJobInfo> = "DynamicImageJobInfo", Sometimes, InferredVod;
    }
}

object! {
    /// An animation, as VOD describes it. Every number is a string.
    DynamicImageJobInfo {
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredVod;
        /// `success` or `fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Address of the animation.
        file_url: String = "FileURL", Sometimes, InferredVod;
        /// Size in bytes.
        file_size: Number = "FileSize" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Frames per second.
        fps: Number = "Fps" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Height in pixels.
        height: Number = "Height" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Width in pixels.
        width: Number = "Width" as NUMBER_IN_STRING, Sometimes, InferredVod;
    }
}
