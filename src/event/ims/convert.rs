//! Media processing in the manner of VOD: media convert jobs, the newer way of
//! transcoding. A job says `State` and `Error`, its outputs `Status` and
//! `Failed`; other jobs of IMS say `Status` and `Fail`.

use std::collections::BTreeMap;

use super::field::{Json, JsonText, Number};
use super::file_meta::{JobFile, OutFileMeta};
use super::model::{event, object};

event! {
    /// A media convert job (`SubmitMediaConvertJob`) has ended.
    MediaConvertComplete(Transcode, NameOnly, "SDK `MediaConvertJob`", ["MediaConvertComplete"]) {
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// `Inited`, `Running`, `Complete`, `Error` or `Cancelled`; the model's own
        /// example is `Finished`.
        state: String = "State", Sometimes, InferredJob;
        /// What the callback may say instead of `State`.
        status: String = "Status", Sometimes, InferredJob;
        /// How far it got, in percent.
        percent: Number = "Percent", Sometimes, InferredJob;
        /// Why it failed, for example `InvalidParameter.ResourceContentBad`.
        code: String = "Code", Sometimes, InferredJob;
        /// Why it failed, in words.
        message: String = "Message", Sometimes, InferredJob;
        /// The outputs.
        output_details: Vec<MediaConvertOutputComplete> = "OutputDetails", Sometimes, InferredJob;
        /// The groups of outputs.
        output_group_details: Vec<MediaConvertOutputGroupComplete> = "OutputGroupDetails", Sometimes, InferredJob;
        /// The configuration that was submitted.
        config: BTreeMap<String, Json> = "Config", Sometimes, InferredJob;
        /// Id of the pipeline.
        pipeline_id: String = "PipelineId", Sometimes, InferredJob;
        /// The caller's own id of the submission.
        client_token: String = "ClientToken", Sometimes, InferredJob;
        /// Id of the request that submitted it.
        request_id: String = "RequestId", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
    }
}

event! {
    /// One group of outputs of a media convert job has ended.
    MediaConvertOutputGroupComplete(Transcode, NameOnly, "SDK `MediaConvertOutputGroupDetail`", ["MediaConvertOutputGroupComplete"]) {
        /// Id of the job. The model of a group has none; assumed, since the
        /// message would be useless without it.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// Id of the group's own task.
        task_id: String = "TaskId", Sometimes, InferredJob;
        /// Name of the group, for example `hls-group`.
        name: String = "Name", Sometimes, InferredJob;
        /// `Success`, `Failed` or `Skipped`; also `Init` and `Running`.
        status: String = "Status", Sometimes, InferredJob;
        /// Why it failed.
        code: String = "Code", Sometimes, InferredJob;
        /// Why it failed, in words.
        message: String = "Message", Sometimes, InferredJob;
        /// The outputs of the group.
        outputs: Vec<MediaConvertOutputComplete> = "Outputs", Sometimes, InferredJob;
        /// What the caller gave with the job. Not in the model of a group;
        /// assumed, since the events of other jobs repeat it.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
    }
}

event! {
    /// One output of a media convert job has ended.
    MediaConvertOutputComplete(Transcode, NameOnly, "SDK `MediaConvertOutputDetail`", ["MediaConvertOutputComplete"]) {
        /// Id of the job; assumed, as for a group.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// Id of the output's own task.
        task_id: String = "TaskId", Sometimes, InferredJob;
        /// Name of the output, for example `720P-mp4`.
        name: String = "Name", Sometimes, InferredJob;
        /// `Success`, `Failed` or `Skipped`; also `Init` and `Scheduled`.
        status: String = "Status", Sometimes, InferredJob;
        /// Why it failed.
        code: String = "Code", Sometimes, InferredJob;
        /// Why it failed, in words.
        message: String = "Message", Sometimes, InferredJob;
        /// What came out.
        result: ConvertResult = "Result", Sometimes, InferredJob;
        /// What the caller gave with the job; assumed, as for a group.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
    }
}

object! {
    /// What came out of one output of a media convert job.
    ConvertResult {
        /// The file.
        output_file: JobFile = "OutputFile", Sometimes, InferredJob;
        /// What was measured about it.
        out_file_meta: OutFileMeta = "OutFileMeta", Sometimes, InferredJob;
    }
}
