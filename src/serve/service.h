// What is served: routes, who may use them, and how much at once. Knows no sockets.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "serve/admission.h"
#include "serve/backend.h"
#include "serve/generation.h"
#include "serve/http.h"
#include "serve/metrics.h"

namespace farskip::serve {

struct ServiceOptions {
  std::string api_key;          ///< "": anybody may use it
  int64_t max_sequences = 320;  ///< under way and waiting, all requests together
  /// Whose pages in a browser may use it ("*": anybody's); empty: only its own.
  std::vector<std::string> allowed_origins = {};
};

/// An answer, or a generation from which it comes.
struct Reply {
  HttpResponse response;                   ///< of a generation that streams, the head
  std::shared_ptr<void> place;             ///< in the admission
  std::unique_ptr<Generation> generation;  ///< null: `response` is all
};

/// Any thread may use it.
class Service {
 public:
  /// `backend` must outlive it.
  Service(ServedModel model, Backend& backend, ServiceOptions options);

  /// Errors become answers.
  Reply handle(const HttpRequest& request);
  /// What tells a browser that a page of this origin may read an answer; nothing where it may not.
  Headers sharing(const std::string& origin) const;
  /// From now on nothing new is generated: 503.
  void stop() { stopping_ = true; }
  /// Counts an answer that is over; 499: the client went away before.
  void ended(const HttpRequest& request, int status, double seconds);

 private:
  struct Route;
  static const Route kRoutes[];

  Reply route(const HttpRequest& request);
  void authorize(const HttpRequest& request) const;
  /// A browser asks before it sends what a form could not: Route's method, any headers.
  Reply preflight(const HttpRequest& request, const Route& route) const;
  Reply completions(const HttpRequest& request);
  Reply chat(const HttpRequest& request);
  Reply generate(GenerationRequest request);
  Reply models(const HttpRequest& request);
  Reply tokenize_text(const HttpRequest& request);
  Reply detokenize_tokens(const HttpRequest& request);
  Reply tokenizer_facts(const HttpRequest& request);
  Reply health(const HttpRequest& request);
  Reply metrics(const HttpRequest& request);
  Reply timeline(const HttpRequest& request);
  Reply page(const HttpRequest& request);

  ServedModel model_;
  Backend& backend_;
  ServiceOptions options_;
  Admission admission_;
  std::shared_ptr<Metrics> metrics_ = std::make_shared<Metrics>();
  int64_t created_;  ///< seconds since 1970
  std::string id_prefix_;
  std::atomic<uint64_t> answers_ = 0;
  std::atomic<bool> stopping_ = false;
};

}  // namespace farskip::serve
