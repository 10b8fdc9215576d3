//! temporary
use std::path::Path;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let app = keyward::app::App::start(Path::new(&path), |config| {
        let format = keyward::app::log_format(
            config.log.format,
            std::io::IsTerminal::is_terminal(&std::io::stderr()),
        );
        keyward::telemetry::events::install(format, tracing::level_filters::LevelFilter::INFO)
            .map_err(std::io::Error::other)
    });
    match app {
        Ok(app) => app.run().unwrap(),
        Err(keyward::app::StartError::Faults(r)) => eprintln!("{}", r.render(false)),
        Err(keyward::app::StartError::Io(e)) => eprintln!("{e}"),
    }
}
