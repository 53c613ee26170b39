//! Files, and what is measured about them: shared by the jobs that process
//! media. In the measurements every number is a string, and the spelling of
//! names is mixed: `Avg_fps` beside `PixFmt`, `Bit_rate` beside `Bitrate`.

use super::field::Number;
use super::model::object;

object! {
    /// A file that goes into a job or comes out of it.
    JobFile {
        /// `OSS`, an address in the object store, or `Media`, an asset.
        r#type: String = "Type", Sometimes, InferredJob;
        /// Address or asset id, as `Type` says.
        media: String = "Media", Sometimes, InferredJob;
        /// Address of an input.
        input_url: String = "InputUrl", Sometimes, InferredJob;
        /// Address of an output.
        output_url: String = "OutputUrl", Sometimes, InferredJob;
        /// Address, in media convert jobs.
        url: String = "Url", Sometimes, InferredJob;
    }
}

object! {
    /// A file, with its place in the object store spelled out.
    Location {
        /// `OSS` or `Media`.
        r#type: String = "Type", Sometimes, InferredJob;
        /// Address or asset id, as `Type` says.
        media: String = "Media", Sometimes, InferredJob;
        /// The place in the object store.
        oss_file: OssFile = "OssFile", Sometimes, InferredJob;
    }
}

object! {
    /// A place in the object store.
    OssFile {
        /// The bucket.
        bucket: String = "Bucket", Sometimes, InferredJob;
        /// The region's part of the host name, for example `oss-cn-shanghai`.
        location: String = "Location", Sometimes, InferredJob;
        /// The key in the bucket.
        object: String = "Object", Sometimes, InferredJob;
    }
}

object! {
    /// What was measured about the file that came out of a job.
    OutFileMeta {
        /// The file as a whole.
        file_basic_info: FileBasicInfo = "FileBasicInfo", Sometimes, InferredJob;
        /// Its video streams.
        video_stream_info_list: Vec<VideoStreamInfo> = "VideoStreamInfoList", Sometimes, InferredJob;
        /// Its audio streams.
        audio_stream_info_list: Vec<AudioStreamInfo> = "AudioStreamInfoList", Sometimes, InferredJob;
    }
}

object! {
    /// A file as a whole.
    FileBasicInfo {
        /// Id of the asset.
        media_id: String = "MediaId", Sometimes, InferredJob;
        /// Name of the file.
        file_name: String = "FileName", Sometimes, InferredJob;
        /// `Normal`, ….
        file_status: String = "FileStatus", Sometimes, InferredJob;
        /// `source_file` or `transcode_file`.
        file_type: String = "FileType", Sometimes, InferredJob;
        /// Size in bytes.
        file_size: Number = "FileSize" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Address of the file.
        file_url: String = "FileUrl", Sometimes, InferredJob;
        /// The region, for example `cn-shanghai`.
        region: String = "Region", Sometimes, InferredJob;
        /// The container formats, separated by commas.
        format_name: String = "FormatName", Sometimes, InferredJob;
        /// Length in seconds, with a fraction.
        duration: Number = "Duration" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Bit rate in kbit/s.
        bitrate: Number = "Bitrate" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Width in pixels.
        width: Number = "Width" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Height in pixels.
        height: Number = "Height" as NUMBER_IN_STRING, Sometimes, InferredJob;
    }
}

object! {
    /// A video stream in a file.
    VideoStreamInfo {
        /// Its place in the file, counted from 0.
        index: Number = "Index" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// The codec, for example `h264`.
        codec_name: String = "Codec_name", Sometimes, InferredJob;
        /// The codec in words.
        codec_long_name: String = "Codec_long_name", Sometimes, InferredJob;
        /// The codec's profile, for example `High`.
        profile: String = "Profile", Sometimes, InferredJob;
        /// The codec's time base, a fraction of a second.
        codec_time_base: String = "Codec_time_base", Sometimes, InferredJob;
        /// The codec's tag as text.
        codec_tag_string: String = "Codec_tag_string", Sometimes, InferredJob;
        /// The codec's tag, hexadecimal.
        codec_tag: String = "Codec_tag", Sometimes, InferredJob;
        /// Width in pixels.
        width: Number = "Width" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Height in pixels.
        height: Number = "Height" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// How many B-frames may follow each other.
        has_b_frames: Number = "Has_b_frames" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Shape of a sample, width to height.
        sar: String = "Sar", Sometimes, InferredJob;
        /// Shape of the picture, width to height.
        dar: String = "Dar", Sometimes, InferredJob;
        /// The pixel format, for example `yuv420p`.
        pix_fmt: String = "PixFmt", Sometimes, InferredJob;
        /// The codec's level.
        level: Number = "Level" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Frames per second.
        fps: Number = "Fps" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Frames per second on average.
        avg_fps: Number = "Avg_fps" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// The stream's time base, a fraction of a second.
        time_base: String = "Time_base", Sometimes, InferredJob;
        /// When it begins, in seconds.
        start_time: Number = "Start_time" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Length in seconds.
        duration: Number = "Duration" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Bit rate in kbit/s.
        bit_rate: Number = "Bit_rate" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// How many frames there are.
        num_frames: Number = "NumFrames" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// The language.
        lang: String = "Lang", Sometimes, InferredJob;
        /// By how many degrees it is to be turned.
        rotate: Number = "Rotate" as NUMBER_IN_STRING, Sometimes, InferredJob;
    }
}

object! {
    /// An audio stream in a file.
    AudioStreamInfo {
        /// Its place in the file, counted from 0.
        index: Number = "Index" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// The codec, for example `aac`.
        codec_name: String = "CodecName", Sometimes, InferredJob;
        /// The codec in words.
        codec_long_name: String = "CodecLongName", Sometimes, InferredJob;
        /// The codec's time base, a fraction of a second.
        codec_time_base: String = "CodecTimeBase", Sometimes, InferredJob;
        /// The codec's tag as text.
        codec_tag_string: String = "CodecTagString", Sometimes, InferredJob;
        /// The codec's tag, hexadecimal.
        codec_tag: String = "CodecTag", Sometimes, InferredJob;
        /// The sample format, for example `fltp`.
        sample_fmt: String = "SampleFmt", Sometimes, InferredJob;
        /// Samples per second.
        sample_rate: Number = "SampleRate" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// How many channels there are.
        channels: Number = "Channels" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// What the channels are, for example `stereo`.
        channel_layout: String = "ChannelLayout", Sometimes, InferredJob;
        /// The stream's time base, a fraction of a second.
        timebase: String = "Timebase", Sometimes, InferredJob;
        /// When it begins, in seconds.
        start_time: Number = "StartTime" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Length in seconds.
        duration: Number = "Duration" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// Bit rate in kbit/s.
        bitrate: Number = "Bitrate" as NUMBER_IN_STRING, Sometimes, InferredJob;
        /// The language.
        lang: String = "Lang", Sometimes, InferredJob;
    }
}
