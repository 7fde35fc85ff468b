// A request on its way: its sequences in the engine, and the answer that comes of them.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/backend.h"
#include "serve/inbox.h"
#include "serve/logprobs.h"
#include "serve/metrics.h"
#include "serve/response.h"

namespace farskip::serve {

/// One thread at a time may use it. What it is given must outlive it.
class Generation {
 public:
  /// Submits a sequence for every choice. ApiError 400 where the engine refuses one.
  Generation(Backend& backend, const text::Tokenizer& tokenizer, std::shared_ptr<Metrics> metrics,
             GenerationRequest request, AnswerHead head);
  /// Gives up what is not done.
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  bool streams() const { return request_.stream; }
  size_t sequences() const { return states_.size(); }
  /// `wake` is called, from any thread, when advance() may have something to do.
  void notify(std::function<void()> wake) { inbox_->notify(std::move(wake)); }
  /// Takes in what has happened; of a stream the events to be sent now, maybe none.
  std::string advance();
  /// Nothing comes any more; of a stream, all of it has been returned.
  bool done() const { return unfinished_ == 0; }
  /// Ends it with an error.
  std::string fail(int status, const std::string& message);
  /// The answer, once, when it is done and does not stream.
  HttpResponse response();

 private:
  struct State {
    std::optional<Backend::Id> id;
    Choice choice;                      ///< so far
    std::vector<engine::Token> tokens;  ///< so far, where their log-probabilities are asked for
    TextOffsets offsets;                ///< of the next token
    bool begun = false, finished = false;
  };

  const Prompt& prompt_of(size_t sequence) const {
    return request_.prompts[sequence / request_.choices];
  }
  void submit(size_t sequence);
  void cancel_all();
  /// The events that a sequence's news make; its state goes on.
  std::string take_in(State& state, size_t sequence, News& news);
  std::string begin(State& state, size_t sequence, News& news);
  void finish(State& state, const engine::Outcome& outcome);
  io::Json logprobs(State& state, const std::vector<engine::Token>& tokens);
  std::string send(const io::Json& json) const;

  Backend& backend_;
  const text::Tokenizer& tokenizer_;
  std::shared_ptr<Metrics> metrics_;
  GenerationRequest request_;
  AnswerHead head_;
  std::shared_ptr<Inbox> inbox_;
  std::vector<State> states_;  ///< prompt by prompt
  size_t unfinished_ = 0;
  Usage usage_;
  std::optional<ApiError> error_;
};

}  // namespace farskip::serve
