//! `completions`: what a shell has to know to complete our commands.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// Print the completions of a shell, for its folder of completions
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Prints the shell's script to `out`.
    ///
    /// # Errors
    /// An I/O error where `out` is gone.
    pub fn run(self, out: &mut dyn Write) -> io::Result<ExitCode> {
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        // The generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        out.write_all(&script)?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
