//! Media processing in the manner of VOD: analysis of source files, and the
//! older way of transcoding. Its successor is in [`convert`](super::convert).

use super::field::{JsonText, Number};
use super::file_meta::{JobFile, OutFileMeta};
use super::model::{event, object};

event! {
    /// Analysis of a source file has ended.
    VideoAnalysisComplete(Transcode, NameOnly, "VOD \"VideoAnalysisComplete\"", ["VideoAnalysisComplete", "VideoAnalysisComplete.fail"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredVod;
        /// Id of the asset; `VideoId` in VOD.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Width in pixels; absent for audio. A number in VOD's table, a string
        /// in its sample.
        width: Number = "Width" as STRING_OR_NUMBER, Sometimes, InferredVod;
        /// Height in pixels; as `Width`.
        height: Number = "Height" as STRING_OR_NUMBER, Sometimes, InferredVod;
        /// Length in seconds; a number in VOD's table, a string in its sample.
        duration: Number = "Duration" as STRING_OR_NUMBER, Sometimes, InferredVod;
        /// Bit rate in kbit/s.
        bitrate: Number = "Bitrate" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Frames per second; absent for audio.
        fps: Number = "Fps" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Size in bytes; a number in VOD's table, a string in its sample.
        size: Number = "Size" as STRING_OR_NUMBER, Sometimes, InferredVod;
        /// Why it failed, for example `InvalidParameter.ResourceContentBad`; then
        /// there are no measurements.
        error_code: String = "ErrorCode", Sometimes, InferredVod;
        /// Why it failed, in words.
        error_message: String = "ErrorMessage", Sometimes, InferredVod;
    }
}

event! {
    /// One transcoding sub-job has ended. Announced for retirement on 2025-12-31.
    ///
    /// In VOD the same name means all streams of a video: do not mix the two up.
    TranscodeComplete(Transcode, NameOnly, "SDK `GetTranscodeJob`; VOD \"TranscodeComplete\"", ["TranscodeComplete"]) {
        /// Id of the sub-job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// Id of the parent job.
        parent_job_id: String = "ParentJobId", Sometimes, InferredJob;
        /// Its place in the parent job, counted from 0.
        job_index: Number = "JobIndex", Sometimes, InferredJob;
        /// Name of the job.
        name: String = "Name", Sometimes, InferredJob;
        /// `Success` or `Fail`; the query also has `Init`, `Processing` and `Deleted`.
        status: String = "Status", Sometimes, InferredJob;
        /// What went in.
        input_group: Vec<JobFile> = "InputGroup", Sometimes, InferredJob;
        /// What came out.
        output: JobFile = "Output", Sometimes, InferredJob;
        /// What was measured about the output.
        out_file_meta: OutFileMeta = "OutFileMeta", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was submitted, UTC.
        submit_time: String = "SubmitTime", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
    }
}

event! {
    /// A whole transcoding job has ended, with all its sub-jobs. Announced for
    /// retirement on 2025-12-31.
    TranscodeParentComplete(Transcode, NameOnly, "SDK `GetTranscodeJob`", ["TranscodeParentComplete"]) {
        /// Id of the job, as returned at the submission.
        parent_job_id: String = "ParentJobId", Sometimes, InferredJob;
        /// Name of the job.
        name: String = "Name", Sometimes, InferredJob;
        /// `Success`: all sub-jobs worked; `Fail`: all failed. What is sent when
        /// some failed is not described.
        status: String = "Status", Sometimes, InferredJob;
        /// How many sub-jobs there are.
        job_count: Number = "JobCount", Sometimes, InferredJob;
        /// How far it got, in percent.
        percent: Number = "Percent", Sometimes, InferredJob;
        /// What went in.
        input_group: Vec<JobFile> = "InputGroup", Sometimes, InferredJob;
        /// What was asked for.
        output_group: Vec<TranscodeOutput> = "OutputGroup", Sometimes, InferredJob;
        /// The sub-jobs.
        transcode_job_list: Vec<TranscodeComplete> = "TranscodeJobList", Sometimes, InferredJob;
        /// Where in the queue it ran.
        schedule_config: ScheduleConfig = "ScheduleConfig", Sometimes, InferredJob;
        /// Who started it: `API`, `WorkFlow` (with a capital F here) or `Console`.
        trigger_source: String = "TriggerSource", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// Id of the request that submitted it.
        request_id: String = "RequestId", Sometimes, InferredJob;
        /// When it was submitted, UTC.
        submit_time: String = "SubmitTime", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
    }
}

object! {
    /// One output that a transcoding job was asked for.
    TranscodeOutput {
        /// Where it goes.
        output: JobFile = "Output", Sometimes, InferredJob;
        /// How it is made.
        process_config: ProcessConfig = "ProcessConfig", Sometimes, InferredJob;
    }
}

object! {
    /// How a transcoding output is made.
    ProcessConfig {
        /// The transcoding.
        transcode: TranscodeConfig = "Transcode", Sometimes, InferredJob;
    }
}

object! {
    /// How a transcoding output is encoded.
    TranscodeConfig {
        /// Id of the template.
        template_id: String = "TemplateId", Sometimes, InferredJob;
    }
}

object! {
    /// Where in the queue a job runs.
    ScheduleConfig {
        /// Id of the pipeline.
        pipeline_id: String = "PipelineId", Sometimes, InferredJob;
        /// Its priority in the pipeline.
        priority: Number = "Priority" as STRING_OR_NUMBER, Sometimes, InferredJob;
    }
}
