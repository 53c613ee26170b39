//! Video AI: moderation, intelligent production, analysis.

use super::field::{JsonText, Number};
use super::file_meta::JobFile;
use super::model::{event, object};

event! {
    /// An automatic review (moderation) has ended.
    ///
    /// Addresses of pictures in it expire, in VOD after two weeks. The query
    /// for the same job has other names: `State`, `VensorCensorResult` (sic),
    /// `CoverImageCensorResults`, `TitleCensorResult`.
    AIMediaAuditComplete(Ai, NameOnly, "VOD \"AIMediaAuditComplete\"; SDK `QueryMediaCensorJobDetail`", ["AIMediaAuditComplete"]) {
        /// Id of the review job.
        job_id: String = "JobId", Sometimes, InferredVod;
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredVod;
        /// Whether the review took place: `Success` or `Fail` (lower case in VOD).
        status: String = "Status", Sometimes, InferredVod;
        /// Error code; `"0"` on success, although the table says "on error".
        code: String = "Code", Sometimes, InferredVod;
        /// `OK` on success, else why it failed.
        message: String = "Message", Sometimes, InferredVod;
        /// The verdict. VOD's table types it as a string, its sample shows an object.
        data: AuditData = "Data" as OBJECT_OR_JSON, Sometimes, InferredVod;
    }
}

object! {
    /// The verdict of a review.
    AuditData {
        /// The parts that were found wanting, separated by commas.
        abnormal_modules: String = "AbnormalModules", Sometimes, InferredVod;
        /// What was found, for example `porn`.
        label: String = "Label", Sometimes, InferredVod;
        /// `pass`, `review` or `block`.
        suggestion: String = "Suggestion", Sometimes, InferredVod;
        /// About the moving picture.
        video_result: VideoAudit = "VideoResult", Sometimes, InferredVod;
        /// About covers and other images.
        image_result: Vec<ImageAudit> = "ImageResult", Sometimes, InferredVod;
        /// About titles and other texts.
        text_result: Vec<TextAudit> = "TextResult", Sometimes, InferredVod;
    }
}

object! {
    /// The verdict about the moving picture.
    VideoAudit {
        /// `pass`, `review` or `block`.
        suggestion: String = "Suggestion", Sometimes, InferredVod;
        /// What was found.
        label: String = "Label", Sometimes, InferredVod;
        /// About terrorism.
        terrorism_result: SceneAudit = "TerrorismResult", Sometimes, InferredVod;
        /// About pornography.
        porn_result: SceneAudit = "PornResult", Sometimes, InferredVod;
    }
}

object! {
    /// The verdict about one subject.
    SceneAudit {
        /// `pass`, `review` or `block`.
        suggestion: String = "Suggestion", Sometimes, InferredVod;
        /// What was found.
        label: String = "Label", Sometimes, InferredVod;
        /// Highest score, 0 to 100, decimal.
        max_score: Number = "MaxScore" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Average score, 0 to 100, decimal.
        average_score: Number = "AverageScore" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// The frames with the highest scores.
        top_list: Vec<AuditFrame> = "TopList", Sometimes, InferredVod;
        /// How many frames there are of each label.
        counter_list: Vec<AuditCounter> = "CounterList", Sometimes, InferredVod;
    }
}

object! {
    /// One frame with a high score.
    AuditFrame {
        /// Its score, 0 to 100, decimal.
        score: Number = "Score" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// What was found in it.
        label: String = "Label", Sometimes, InferredVod;
        /// Where in the video, in milliseconds.
        timestamp: Number = "Timestamp" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// Address of the picture; expires.
        url: String = "Url", Sometimes, InferredVod;
    }
}

object! {
    /// How many frames there are of one label.
    AuditCounter {
        /// The label.
        label: String = "Label", Sometimes, InferredVod;
        /// How many frames have it.
        count: Number = "Count", Sometimes, InferredVod;
    }
}

object! {
    /// The verdict about an image.
    ImageAudit {
        /// `cover`, ….
        r#type: String = "Type", Sometimes, InferredVod;
        /// `pass`, `review` or `block`.
        suggestion: String = "Suggestion", Sometimes, InferredVod;
        /// What was found.
        label: String = "Label", Sometimes, InferredVod;
        /// Address of the image; expires.
        url: String = "Url", Sometimes, InferredVod;
        /// The verdicts by subject.
        result: Vec<ImageScene> = "Result", Sometimes, InferredVod;
    }
}

object! {
    /// The verdict about one subject in an image.
    ImageScene {
        /// The subject, for example `porn`.
        scene: String = "Scene", Sometimes, InferredVod;
        /// `pass`, `review` or `block`.
        suggestion: String = "Suggestion", Sometimes, InferredVod;
        /// What was found.
        label: String = "Label", Sometimes, InferredVod;
        /// The score, 0 to 100, decimal.
        score: Number = "Score" as NUMBER_IN_STRING, Sometimes, InferredVod;
    }
}

object! {
    /// The verdict about a text.
    TextAudit {
        /// `title`, ….
        r#type: String = "Type", Sometimes, InferredVod;
        /// The subject, for example `antispam`.
        scene: String = "Scene", Sometimes, InferredVod;
        /// `pass`, `review` or `block`.
        suggestion: String = "Suggestion", Sometimes, InferredVod;
        /// What was found.
        label: String = "Label", Sometimes, InferredVod;
        /// The score, 0 to 100, decimal.
        score: Number = "Score" as NUMBER_IN_STRING, Sometimes, InferredVod;
        /// The text.
        content: String = "Content", Sometimes, InferredVod;
    }
}

event! {
    /// An intelligent production job (`SubmitIProductionJob`) has ended.
    AIProduceComplete(Ai, NameOnly, "SDK `QueryIProductionJob`", ["AIProduceComplete"]) {
        /// Id of the job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// `Cover`, `VideoClip`, `VideoDelogo`, `VideoDetext`, `CaptionExtraction`,
        /// `VideoGreenScreenMatting`, `FaceBeauty`, `VideoH2V`,
        /// `MusicSegmentDetect`, `AudioBeatDetection`, `AudioQualityAssessment`,
        /// `SpeechDenoise`, `AudioMixing` or `MusicDemix`.
        function_name: String = "FunctionName", Sometimes, InferredJob;
        /// `Success` or `Fail`; the query also has `Queuing` and `Analyzing`.
        status: String = "Status", Sometimes, InferredJob;
        /// What went in.
        input: JobFile = "Input", Sometimes, InferredJob;
        /// What came out.
        output: ProductionOutput = "Output", Sometimes, InferredJob;
        /// The files that came out.
        output_files: Vec<String> = "OutputFiles", Sometimes, InferredJob;
        /// Their addresses.
        output_urls: Vec<String> = "OutputUrls", Sometimes, InferredJob;
        /// Their asset ids.
        output_media_ids: Vec<String> = "OutputMediaIds", Sometimes, InferredJob;
        /// The algorithm's own result; its `Data` can be JSON in a string again.
        result: JsonText = "Result", Sometimes, InferredJob;
        /// What was asked of the algorithm.
        job_params: JsonText = "JobParams", Sometimes, InferredJob;
        /// Id of the template.
        template_id: String = "TemplateId", Sometimes, InferredJob;
        /// What the caller gave with the job, at most 256 characters.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
        /// When it ended, UTC.
        finish_time: String = "FinishTime", Sometimes, InferredJob;
    }
}

object! {
    /// Where the result of an intelligent production job went.
    ProductionOutput {
        /// `OSS` or `Media`.
        r#type: String = "Type", Sometimes, InferredJob;
        /// Address or asset id, as `Type` says.
        media: String = "Media", Sometimes, InferredJob;
        /// The business that the asset belongs to.
        biz: String = "Biz", Sometimes, InferredJob;
        /// Address of the result.
        output_url: String = "OutputUrl", Sometimes, InferredJob;
    }
}

event! {
    /// AI analysis of an asset has ended and its result lies in the folder
    /// `ice-generated` of the asset's bucket; `GetMediaInfo` shows it.
    ///
    /// Asked for at the registration (`RegisterMediaInfo` with a smart-tag
    /// template), or by `SubmitSmarttagJob` or `SubmitMediaAiAnalysisJob`.
    MediaAiAnalysisComplete(Ai, NameOnly, "\"Analyze the content of media assets\" (trigger), SDK `SubmitMediaAiAnalysisJob`", ["MediaAiAnalysisComplete"]) {
        /// `Success` or `Fail`.
        status: String = "Status", Sometimes, InferredJob;
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredJob;
        /// What the caller gave with the job.
        user_data: JsonText = "UserData", Sometimes, InferredJob;
    }
}
