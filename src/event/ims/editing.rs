//! Intelligent editing: production jobs, batches of them, and smart jobs.

use super::field::JsonText;
use super::model::event;

event! {
    /// An editing-and-production job (`SubmitMediaProducingJob`) has ended.
    ///
    /// A failed job is `Fail` here but `Failed` in `GetMediaProducingJob`, which
    /// also says `Code` and `Message`. `MediaURL` can be there before the output
    /// asset has been analysed, which `RegisterMediaComplete` tells. The sample
    /// of the failure follows a public test fixture, not a capture.
    ProduceMediaComplete(Editing, Documented, "IMS user guide, \"Event list\", its sample as quoted in public code",
        ["ProduceMediaComplete", "ProduceMediaComplete.fail"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Always, Documented;
        /// Id of the job.
        job_id: String = "JobId", Always, Documented;
        /// Id of the editing project.
        project_id: String = "ProjectId", Sometimes, Documented;
        /// Address of the result; only on success. Spelled `MediaURL`.
        media_url: String = "MediaURL", Sometimes, Documented;
        /// Id of the result's asset; only on success.
        media_id: String = "MediaId", Sometimes, Documented;
        /// Why it failed; empty on success in the sample, may also be absent.
        error_code: String = "ErrorCode", Sometimes, Documented;
        /// Why it failed, in words; as `ErrorCode`.
        error_message: String = "ErrorMessage", Sometimes, Documented;
        /// What was submitted, for example `{"NotifyAddress":"http://..."}`;
        /// missing when nothing was.
        user_data: JsonText = "UserData", Sometimes, Documented;
    }
}

event! {
    /// A batch job (`SubmitBatchMediaProducingJob`) has ended, and probably a
    /// highlight job.
    ///
    /// It has no results, and `Finished` does not mean that every video worked:
    /// ask `GetBatchMediaProducingJob`.
    BatchProduceMediaComplete(Editing, Documented, "IMS user guide, \"Event list\", its sample as quoted in public code",
        ["BatchProduceMediaComplete"]) {
        /// `Finished`, not `Success`. The query also has `Init`, `Processing` and
        /// `Failed`; which word a failed batch sends is not documented.
        status: String = "Status", Always, Documented;
        /// Id of the batch job.
        job_id: String = "JobId", Always, Documented;
        /// What was submitted. In the sample, but missing when nothing was
        /// submitted, as in all events.
        user_data: JsonText = "UserData", Sometimes, Documented;
    }
}

event! {
    /// A smart job (speech recognition, translation, text to speech, …) has
    /// ended.
    ///
    /// The name is likely, not certain: in all readable copies of the event
    /// list it is missing from its row. The result itself comes from
    /// `GetSmartHandleJob`.
    SmartJobComplete(Editing, NameOnly, "SDK `GetSmartHandleJob`, VOD \"Workflow task completion\"; the name from a public test", ["SmartJobComplete"]) {
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// `Finished`, …, as workflow results have it.
        status: String = "Status", Sometimes, InferredJob;
        /// `Created`, `Executing`, `Finished` or `Failed`, as the query has it.
        state: String = "State", Sometimes, InferredJob;
        /// `ASR`, `DynamicChart`, `TextToSpeech`, `VideoTranslation`, ….
        job_type: String = "JobType", Sometimes, InferredJob;
        /// Id of the result's asset.
        media_id: String = "MediaId", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// Why it failed, for example `SpeechTranslationNoValidVocal`.
        error_code: String = "ErrorCode", Sometimes, InferredJob;
        /// Why it failed, in words.
        error_message: String = "ErrorMessage", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it last changed, UTC.
        modified_time: String = "ModifiedTime", Sometimes, InferredJob;
    }
}
