#include "serve/sequence_listener.h"

#include <algorithm>

namespace farskip::serve {

SequenceListener::SequenceListener(const text::Tokenizer& tokenizer,
                                   const GenerationRequest& request, std::shared_ptr<Inbox> inbox,
                                   size_t sequence, std::shared_ptr<Metrics> metrics)
    : text_(tokenizer, request.output),
      stop_tokens_(request.stop_tokens),
      tells_stop_tokens_(request.output.include_stop),
      inbox_(std::move(inbox)),
      sequence_(sequence),
      metrics_(std::move(metrics)) {}

void SequenceListener::on_prompt(const std::vector<engine::Token>& tokens) {
  inbox_->add(sequence_, {.prompt = tokens});
}

bool SequenceListener::on_token(const engine::Token& token) {
  const auto now = Clock::now();
  if (last_token_)
    metrics_->between_tokens(std::chrono::duration<double>(now - *last_token_).count());
  last_token_ = now;

  News news{.tokens = {token}};
  const bool ends =
      std::find(stop_tokens_.begin(), stop_tokens_.end(), token.id) != stop_tokens_.end();
  if (!ends || tells_stop_tokens_) news.text = text_.push(token.id);
  inbox_->add(sequence_, std::move(news));
  return !ends && !text_.stopped();
}

void SequenceListener::on_finish(const engine::Outcome& outcome) {
  metrics_->finished(outcome);
  inbox_->add(sequence_, {.text = text_.finish(), .outcome = outcome});
}

}  // namespace farskip::serve
