//! Workflow: a chain of jobs as one task.

use std::collections::BTreeMap;

use super::field::{Embedded, JsonText};
use super::model::{event, object};

event! {
    /// A workflow task has ended.
    ///
    /// Up to three levels of JSON inside JSON, and three vocabularies of
    /// status (`Succeed`, `Succeed`, `Finished`) in one message; the content
    /// varies with the workflow.
    WorkflowTaskComplete(Workflow, NameOnly, "VOD \"Workflow task completion\", SDK `GetWorkflowTask`", ["WorkflowTaskComplete"]) {
        /// Id of the task; it stands for the job.
        task_id: String = "TaskId", Sometimes, InferredVod;
        /// Id of the workflow; the query of IMS nests it in `Workflow`.
        workflow_id: String = "WorkflowId", Sometimes, InferredVod;
        /// `Succeed` or `Failed`, not the usual words; the query also knows
        /// `Init`, `Processing` and `Canceled`.
        status: String = "Status", Sometimes, InferredVod;
        /// What the task was started with.
        task_input: Embedded<TaskInput> = "TaskInput", Sometimes, InferredVod;
        /// The results, by the id of the activity.
        activity_results: Embedded<BTreeMap<String, ActivityResult>> = "ActivityResults", Sometimes, InferredVod;
        /// What the caller gave with the task.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When the task was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it last changed, UTC.
        modified_time: String = "ModifiedTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
        /// Id of the video, in VOD only: its English page lists it, the Chinese
        /// one does not.
        video_id: String = "VideoId", Sometimes, InferredVod;
    }
}

object! {
    /// What a workflow task was started with.
    TaskInput {
        /// `Media`, an asset, or `OSS`, a file.
        r#type: String = "Type", Sometimes, InferredVod;
        /// Id or address of the input.
        media: String = "Media", Sometimes, InferredVod;
        /// The title, in VOD.
        title: String = "Title", Sometimes, InferredVod;
        /// Where the file lies, in VOD.
        storage_location: String = "StorageLocation", Sometimes, InferredVod;
    }
}

object! {
    /// What one activity of a workflow led to.
    ActivityResult {
        /// `Succeed`, ….
        status: String = "Status", Sometimes, InferredVod;
        /// When it began, UTC.
        start_time: String = "StartTime", Sometimes, InferredVod;
        /// When it ended, UTC.
        end_time: String = "EndTime", Sometimes, InferredVod;
        /// The activity.
        activity_id: String = "ActivityId", Sometimes, InferredVod;
        /// This run of it.
        activity_instance_id: String = "ActivityInstanceId", Sometimes, InferredVod;
        /// The job behind it; what is in here varies with the activity.
        result: ActivityJob = "Result" as OBJECT_OR_JSON, Sometimes, InferredVod;
    }
}

object! {
    /// The job that an activity ran.
    ActivityJob {
        /// `Finished`, ….
        status: String = "Status", Sometimes, InferredVod;
        /// The kind of job, for example `VideoTranslation`.
        job_type: String = "JobType", Sometimes, InferredVod;
        /// Id of the asset that came out.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredVod;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredVod;
        /// When it last changed, UTC.
        modified_time: String = "ModifiedTime", Sometimes, InferredVod;
        /// What was given with the job.
        user_data: JsonText = "UserData", Sometimes, InferredVod;
    }
}
